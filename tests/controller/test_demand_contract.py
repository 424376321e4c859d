"""The contract of the demand stream, held by the stand-in of these tests and by the activator's own server.

What the operator concludes from a stream is only as good as what the stream promises: a snapshot first, changes at
once, reports twice a second that come after all activity before them, and nothing for strangers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.controller.standin import StandIn
from zerotide.activator.admin.app import Admin
from zerotide.activator.demand.stream import Stream
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.metrics import Metrics
from zerotide.api.demand import Delta, Message, Report, Snapshot, Wake, decode
from zerotide.controller.activators import Activator
from zerotide.controller.streams import Streams
from zerotide.kube import Clock, Identity
from zerotide.scaling.demand import View, load_of

KEY, UID = "demo/a", "u1"
HERE = Activator("act-0", "uid-0", "127.0.0.1", True)
STAMPS = {"demandUs": 1, "firstByteUs": 2}
WAKE: dict[str, Any] = {"endpoint": KEY, "uid": UID, "id": "w1", "stamps": STAMPS, "runtime": None}


@dataclass
class Side:
    """One server of the stream, and how to make things happen behind it."""

    port: int
    hold: Callable[[], None]
    release: Callable[[], None]
    wake: Callable[[], None]


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[int]:
    """Serve on a free port of loopback, which is given."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


@asynccontextmanager
async def following(
    port: int,
    *,
    on_demand: Callable[[str], None] = lambda _: None,
    on_wake: Callable[[View, Wake], None] = lambda *_: None,
    on_membership: Callable[[], None] = lambda: None,
) -> AsyncIterator[Streams]:
    """Follow one activator there."""
    streams = Streams(
        lambda: "secret",
        port,
        Clock(),
        on_demand=on_demand,
        on_wake=on_wake,
        on_membership=on_membership,
    )
    streams.start()
    streams.expect((HERE,))
    yield streams
    await streams.close()


async def stand_in() -> AsyncIterator[Side]:
    """Serve the stand-in."""
    made = StandIn("act-0", "secret")
    demand = {"endpoint": KEY, "uid": UID}
    async with serving(made.app()) as port:
        yield Side(
            port,
            hold=lambda: made.tell({**demand, "held": 1}),
            release=lambda: made.tell({**demand, "held": 0}),
            wake=lambda: made.tell({"wake": WAKE}),
        )


async def activator() -> AsyncIterator[Side]:
    """Serve the activator's own stream."""
    clock = Clock()
    tracker, started = Tracker(clock.now_us), clock.now_us()

    async def review(token: str) -> Identity | None:
        return Identity("operator", "", ()) if token == "secret" else None

    async def well() -> str:
        return ""

    async def page() -> tuple[bytes, str]:
        return Metrics(clock.monotonic).render()

    async def stream() -> Stream:
        return Stream(tracker, "act-0", started, clock.now_us)

    admin = Admin(
        healthy=well,
        ready=well,
        metrics=page,
        stream=stream,
        review=review,
        operator_user="operator",
    )

    def hold() -> None:
        tracker.arrived(KEY, UID)
        tracker.held(KEY, UID, 1)

    def release() -> None:
        tracker.held(KEY, UID, -1)
        tracker.ended(KEY, UID)

    yield Side(
        await admin.listen("127.0.0.1", 0),
        hold=hold,
        release=release,
        wake=lambda: tracker.woke(Wake.model_validate({"atUs": clock.now_us(), **WAKE})),
    )
    await admin.close()


@pytest.fixture(params=[stand_in, activator], ids=["stand-in", "activator"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """Give one server after the other."""
    async for made in request.param():
        yield made


async def messages(side: Side, wanted: int, act: Callable[[], None] | None = None) -> list[Message]:
    """Read so many messages; do something after the first."""
    found: list[Message] = []
    url = f"http://127.0.0.1:{side.port}/internal/demand"
    headers = {"Authorization": "Bearer secret"}
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers) as response,
    ):
        assert response.status == 200
        async for line in response.content:
            message = decode(line)
            assert message is not None
            found.append(message)
            if len(found) == 1 and act is not None:
                act()
            if len(found) >= wanted:
                break
    return found


async def test_a_snapshot_then_reports_in_order(side: Side) -> None:
    """Times only grow, on one clock; reports come about twice a second."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    first, *rest = await messages(side, 4)
    assert isinstance(first, Snapshot) and first.activator == "act-0" and 0 < first.started_at_us <= first.at_us
    assert all(isinstance(message, Report) for message in rest)
    times = [message.at_us for message in (first, *rest)]
    assert times == sorted(times) and 1.0 < loop.time() - began < 4.0


async def test_a_change_comes_before_the_report_that_covers_it(side: Side) -> None:
    """So a report without a change before it means that there was none."""
    _, change, report = await messages(side, 3, side.hold)
    assert isinstance(change, Delta) and isinstance(report, Report)
    demand = change.demand
    assert (demand.endpoint, demand.uid, demand.held, demand.arrivals) == (KEY, UID, 1, 1)
    assert 0 < demand.last_activity_us <= report.at_us
    snapshot = (await messages(side, 1))[0]
    assert isinstance(snapshot, Snapshot) and snapshot.demands[0] == demand


async def test_a_finished_wake_is_told(side: Side) -> None:
    """With its stamps; and to who begins to listen after it, for nobody may have listened before."""
    side.wake()
    for _ in range(2):
        _, wake = await messages(side, 2)
        assert isinstance(wake, Wake) and wake.id == "w1" and wake.stamps.first_byte_us == 2


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_strangers_learn_nothing(side: Side, headers: dict[str, str]) -> None:
    """Demand tells who uses what."""
    url = f"http://127.0.0.1:{side.port}/internal/demand"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status in (401, 403)
        assert KEY not in await response.text()


async def test_the_operator_follows_it(side: Side) -> None:
    """From the snapshot on; what was held and was released is seen at once, and a finished wake."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    woken: asyncio.Queue[Wake] = asyncio.Queue()

    def on_wake(_: View, wake: Wake) -> None:
        woken.put_nowait(wake)

    streams = Streams(
        lambda: "secret",
        side.port,
        Clock(),
        on_demand=heard.put_nowait,
        on_wake=on_wake,
        on_membership=lambda: heard.put_nowait("membership"),
    )
    streams.expect((HERE,))
    assert load_of(KEY, UID, streams.views, streams.names).missing == ("act-0",)
    streams.start()
    async with asyncio.timeout(10):
        while not streams.views:
            await heard.get()
        side.hold()
        while not load_of(KEY, UID, streams.views, streams.names).held:
            await heard.get()
        side.release()
        while load_of(KEY, UID, streams.views, streams.names).held:
            await heard.get()
        side.wake()
        assert (await woken.get()).id == "w1"
    streams.expect(())
    await streams.close()
    assert streams.views == {}


async def test_a_stream_that_breaks_is_missing_until_it_is_back() -> None:
    """And whoever it concerned is looked at."""
    made = StandIn("act-0")
    heard: asyncio.Queue[str] = asyncio.Queue()
    made.tell({"endpoint": KEY, "uid": UID, "held": 1})
    async with serving(made.app()) as port, following(port, on_demand=heard.put_nowait) as streams, asyncio.timeout(10):
        assert await heard.get() == KEY
        made.tell({"drop": True})
        assert await heard.get() == KEY
        assert load_of(KEY, UID, streams.views, streams.names).missing == ("act-0",)
        assert await heard.get() == KEY
        assert load_of(KEY, UID, streams.views, streams.names).held == 1


async def test_an_activator_is_followed_to_another_address(side: Side) -> None:
    """Its node was started again, say: it is the same pod, and nobody answers where it was."""
    heard = asyncio.Event()
    async with following(side.port, on_membership=heard.set) as streams, asyncio.timeout(10):
        streams.expect((replace(HERE, address="127.0.0.2"),))
        await asyncio.sleep(0)
        streams.expect((HERE,))
        while load_of(KEY, UID, streams.views, streams.names).missing:
            heard.clear()
            await heard.wait()
        assert list(streams.views) == ["act-0"]


async def test_a_bug_with_one_endpoint_stops_no_stream(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and what others are asked for is heard."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    def fail(*_: object) -> None:
        heard.put_nowait("failed")
        raise KeyError("a bug")

    async with following(side.port, on_demand=fail, on_wake=fail) as streams, asyncio.timeout(10):
        while not streams.views:
            await asyncio.sleep(0.01)
        for act in (side.hold, side.wake, side.release):
            act()
            assert await heard.get() == "failed"
        assert not load_of(KEY, UID, streams.views, streams.names).missing
    assert {record.message for record in caplog.records if record.exc_info} == {
        "demand not taken in",
        "wake not taken in",
    }


async def test_a_stream_that_falls_silent_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is open: what it does not tell may be a request."""
    monkeypatch.setattr("zerotide.controller.streams.STALL", 0.3)
    made = StandIn("act-0")
    made.tell({"endpoint": KEY, "uid": UID, "held": 0})
    made.tell({"mute": True})
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with serving(made.app()) as port, following(port, on_demand=heard.put_nowait) as streams, asyncio.timeout(10):
        assert await heard.get() == KEY
        assert load_of(KEY, UID, streams.views, streams.names).missing == ()
        assert await heard.get() == KEY
        assert load_of(KEY, UID, streams.views, streams.names).missing == ("act-0",)


@pytest.mark.parametrize("answer", [b"nonsense\n", b'{"type": "report"}\n', b'{"type": "news", "atUs": 1}\n', b""])
async def test_a_server_that_speaks_otherwise_is_missing(answer: bytes) -> None:
    """A message of a kind that is not known yet is passed over; anything else ends the stream."""

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.set()
        return web.Response(body=answer)

    asked = asyncio.Event()
    app = web.Application()
    app.router.add_get("/internal/demand", serve)
    async with serving(app) as port, following(port) as streams, asyncio.timeout(10):
        await asked.wait()
        asked.clear()
        await asked.wait()  # it was given up, and asked again
        assert load_of(KEY, UID, streams.views, streams.names).missing == ("act-0",)
