"""Demand: what is counted, and what the operator is told of it, line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.activator.replica import Replica
from tests.activator.stack import Stack, until
from zerotide.activator.demand.stream import Stream
from zerotide.activator.demand.tracker import MAX_WAKES, Tracker
from zerotide.api.demand import Delta, Demand, Message, Report, Snapshot, Stamps, Wake, decode
from zerotide.kube import ConnectionFailed, Identity

OPERATOR = "system:serviceaccount:zerotide-system:zerotide-operator"


@given(st.lists(st.tuples(st.sampled_from(["arrived", "held", "in_flight", "ended"]), st.sampled_from([1, -1]))))
def test_counts_never_go_below_nothing(events: list[tuple[str, int]]) -> None:
    """Whatever happens: arrivals grow, activity moves forward, held and in flight are counts."""
    clock = iter(range(1, 1000))
    tracker = Tracker(lambda: next(clock))
    before = Demand(endpoint="a/b", uid="u", held=0, in_flight=0, arrivals=0, last_activity_us=0)
    for name, change in events:
        arguments = ("a/b", "u") if name in ("arrived", "ended") else ("a/b", "u", change)
        getattr(tracker, name)(*arguments)
        demand = tracker.demand("a/b")
        assert demand is not None
        assert demand.arrivals >= before.arrivals
        assert demand.last_activity_us >= before.last_activity_us
        before = demand


@given(st.lists(st.tuples(st.sampled_from(["came", "went", "held"]), st.sampled_from([1, -1]))))
def test_one_step_counts_as_two_do(events: list[tuple[str, int]]) -> None:
    """A request that goes at once is counted as one that arrives and then goes; what begins or ends is urgent still."""
    one, two = Tracker(lambda: 7), Tracker(lambda: 7)
    heard: tuple[list[bool], list[bool]] = ([], [])
    for tracker, told in zip((one, two), heard, strict=True):
        tracker.follow(Heard(told))
    for name, change in events:
        for told in heard:
            told.clear()
        if name == "held":
            one.held("a/b", "u", change)
            two.held("a/b", "u", change)
        elif name == "came":
            one.came("a/b", "u", 7)
            two.arrived("a/b", "u")
            two.in_flight("a/b", "u", 1)
        else:
            one.went("a/b", "u", 7)
            two.in_flight("a/b", "u", -1)
            two.ended("a/b", "u")
        assert one.demand("a/b") == two.demand("a/b")
        assert any(heard[0]) is any(heard[1])


class Heard:
    """A listener that notes what was urgent."""

    def __init__(self, told: list[bool]) -> None:
        self.told = told

    def changed(self, endpoint: str, urgent: bool) -> None:
        """Note a change."""
        self.told.append(urgent)

    def woke(self, wake: Wake) -> None:
        """Nothing wakes here."""


def test_a_new_uid_begins_anew() -> None:
    """An endpoint that was deleted and made again has no past; one in use is not forgotten."""
    tracker = Tracker(lambda: 5)
    tracker.arrived("a/b", "u1")
    tracker.in_flight("a/b", "u1", 1)
    tracker.forget("a/b", "u1")
    assert tracker.demand("a/b") is not None
    tracker.in_flight("a/b", "u1", -1)
    tracker.arrived("a/b", "u2")
    demand = tracker.demand("a/b")
    assert demand is not None
    assert (demand.uid, demand.arrivals) == ("u2", 1)
    tracker.forget("a/b", "u2")
    assert tracker.demand("a/b") is None


def test_an_endpoint_made_again_is_asked_for_while_its_past_goes_on() -> None:
    """A long answer of the one that was deleted is demand for nothing; what the new one is asked counts at once."""
    tracker = Tracker(lambda: 5)
    tracker.came("a/b", "u1", 3)
    tracker.came("a/b", "u1", 4)
    tracker.arrived("a/b", "u2")
    tracker.held("a/b", "u2", 1)
    demand = tracker.demand("a/b")
    assert demand is not None
    assert (demand.uid, demand.held, demand.in_flight, demand.arrivals) == ("u2", 1, 0, 1)
    tracker.arrived("a/b", "u1")
    tracker.went("a/b", "u1", 9)
    tracker.in_flight("a/b", "u1", -1)
    tracker.ended("a/b", "u1")
    tracker.in_flight("a/b", "u2", 1)
    assert tracker.demand("a/b") == demand.model_copy(update={"in_flight": 1})
    assert not tracker._past, "nothing is kept of what is over"


class Follower:
    """Read a stream's messages, with the time at which each came."""

    def __init__(self, stream: Stream) -> None:
        self.messages: list[tuple[float, Message]] = []
        self._lines = stream.lines()
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for lines in self._lines:
            for line in lines.splitlines():
                message = decode(line)
                assert message is not None
                self.messages.append((asyncio.get_running_loop().time(), message))

    def of(self, kind: type[Message]) -> list[Any]:
        """Return the messages of a kind."""
        return [message for _, message in self.messages if isinstance(message, kind)]

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def woke(endpoint: str, id: str, uid: str = "u") -> Wake:
    """Return a completed wake."""
    return Wake(at_us=9, endpoint=endpoint, uid=uid, id=id, stamps=Stamps(demand_us=1, first_byte_us=8))


class Recorder:
    """A listener that notes wakes."""

    def __init__(self) -> None:
        self.wakes: list[str] = []

    def changed(self, endpoint: str, urgent: bool) -> None:
        """Nothing changes here."""

    def woke(self, wake: Wake) -> None:
        """Note a wake."""
        self.wakes.append(wake.id)


def test_a_wake_that_nobody_listened_to_is_told_to_who_comes() -> None:
    """The newest of each endpoint that is there, to everybody anew, and no more than can be kept."""
    tracker = Tracker(lambda: 5)
    for endpoint, id in (("a/b", "w1"), ("a/c", "w2"), ("a/b", "w3"), ("a/gone", "w4")):
        tracker.woke(woke(endpoint, id))
    tracker.forget("a/gone", "another")
    tracker.forget("a/gone", "u")
    first, second = Recorder(), Recorder()
    tracker.follow(first)
    tracker.follow(second)
    assert first.wakes == second.wakes == ["w2", "w3"]
    tracker.woke(woke("a/c", "w5"))
    assert second.wakes == ["w2", "w3", "w5"]
    for number in range(MAX_WAKES):
        tracker.woke(woke(f"b/{number}", "w"))
    latest = Recorder()
    tracker.follow(latest)
    assert latest.wakes == ["w"] * MAX_WAKES


@pytest.fixture
async def following() -> AsyncIterator[tuple[Tracker, Follower]]:
    """Follow a tracker with one endpoint in its past."""
    loop = asyncio.get_running_loop()

    def now_us() -> int:
        return round(loop.time() * 1_000_000)

    tracker = Tracker(now_us)
    tracker.arrived("a/b", "u")
    follower = Follower(Stream(tracker, "act-0", 7, now_us))
    await until(lambda: follower.messages)
    yield tracker, follower
    await follower.close()
    assert tracker.unheard.is_set()


async def test_a_stream_begins_with_everything(following: tuple[Tracker, Follower]) -> None:
    """The first line is a snapshot, with the activator's name and start."""
    snapshot = following[1].messages[0][1]
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.activator, snapshot.started_at_us) == ("act-0", 7)
    assert [demand.arrivals for demand in snapshot.demands] == [1]


async def test_a_stream_tells_what_woke_before_it() -> None:
    """After its snapshot."""
    tracker = Tracker(lambda: 5)
    tracker.woke(woke("a/b", "w1"))
    follower = Follower(Stream(tracker, "act-0", 7, lambda: 5))
    await until(lambda: follower.of(Wake))
    assert [type(message) for _, message in follower.messages][:2] == [Snapshot, Wake]
    await follower.close()


async def test_beginnings_and_ends_are_told_at_once(following: tuple[Tracker, Follower]) -> None:
    """What changes between them is gathered for a tenth of a second."""
    tracker, follower = following
    loop = asyncio.get_running_loop()
    began = loop.time()
    tracker.held("a/b", "u", 1)
    await until(lambda: follower.of(Delta))
    assert loop.time() - began < 0.05
    for _ in range(50):
        tracker.held("a/b", "u", 1)
        await asyncio.sleep(0.001)
    await until(lambda: follower.of(Delta)[-1].demand.held == 51)
    assert len(follower.of(Delta)) <= 5


async def test_reports(following: tuple[Tracker, Follower]) -> None:
    """Twice a second, and all activity up to a report's time was told before it."""
    tracker, follower = following
    loop = asyncio.get_running_loop()
    activity = []
    end = loop.time() + 1.2
    while loop.time() < end:
        activity.append(round(loop.time() * 1_000_000))
        tracker.ended("a/b", "u")
        await asyncio.sleep(0.003)
    assert len(follower.of(Report)) in (2, 3)
    told = 0
    for _, message in follower.messages:
        if isinstance(message, Delta):
            told = message.demand.last_activity_us
        elif isinstance(message, Report):
            # A report may come before there was any activity.
            assert max((at for at in activity if at <= message.at_us - 2000), default=0) <= told


async def test_wakes_are_told_at_once(following: tuple[Tracker, Follower]) -> None:
    """Each once."""
    tracker, follower = following
    stamps = Stamps(demand_us=1, first_byte_us=2)
    tracker.woke(Wake(at_us=3, endpoint="a/b", uid="u", id="w", stamps=stamps))
    await until(lambda: follower.of(Wake))
    await asyncio.sleep(0.2)
    assert [wake.id for wake in follower.of(Wake)] == ["w"]


@pytest.fixture
async def admin(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Serve the admin port; the token `operator` is the operator's, `other` somebody's."""

    async def review(token: str) -> Identity | None:
        if token == "down":
            raise ConnectionFailed("the API server is away")
        users = {"operator": OPERATOR, "other": "system:serviceaccount:demo:default"}
        return Identity(users[token], "", ()) if token in users else None

    service = stack.service
    monkeypatch.setattr(service.admin, "_review", review)
    service.admin_port = await service.admin.listen("127.0.0.1", 0)
    yield f"http://127.0.0.1:{service.admin_port}"


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Basic x", 401), ("Bearer ", 401), ("Bearer x", 401), ("Bearer other", 403), ("Bearer down", 503)],
)
async def test_only_the_operator_reads_the_demand(stack: Stack, admin: str, authorization: str, status: int) -> None:
    """Anyone else is refused in words."""
    headers = {"Authorization": authorization} if authorization else {}
    async with stack.session.get(admin + "/internal/demand", headers=headers) as response:
        assert response.status == status
        assert await response.text()


async def test_the_demand_over_http(stack: Stack, admin: str, replica: Replica) -> None:
    """The operator sees a request from its arrival to its end."""
    replica.hold = asyncio.Event()
    seen: list[Message] = []

    async def follow() -> None:
        async with stack.session.get(
            admin + "/internal/demand", headers={"Authorization": "Bearer operator"}
        ) as response:
            assert response.content_type == "application/x-ndjson"
            async for line in response.content:
                message = decode(line)
                assert message is not None
                seen.append(message)

    task = asyncio.create_task(follow())
    await until(lambda: seen)
    stack.endpoint()
    stack.key()
    request = asyncio.create_task(stack.post())

    def demands() -> list[Demand]:
        return [message.demand for message in seen if isinstance(message, Delta)]

    await until(lambda: demands() and demands()[-1].held == 1)
    stack.pod(replica.port)
    await until(lambda: demands()[-1].in_flight == 1 and demands()[-1].held == 0)
    replica.hold.set()
    assert (await request).status == 200
    await until(lambda: not demands()[-1].active)
    assert demands()[-1].arrivals == 1
    await until(lambda: any(isinstance(message, Wake) for message in seen))
    task.cancel()


async def test_health(stack: Stack, admin: str) -> None:
    """Ready only once everything was read, and no more while draining; alive all the time."""

    async def get(path: str) -> tuple[int, str]:
        async with stack.session.get(admin + path) as response:
            return response.status, (await response.text()).strip()

    assert await get("/healthz") == (200, "ok")
    status, why = await get("/readyz")
    assert (status, why) == (503, "not read yet: inferenceendpoints, apikeys, budgets, pods, pods")
    for reflector in stack.service.reflectors:
        reflector.synced.set()
    assert await get("/readyz") == (200, "ok")
    stack.service._draining = True
    assert await get("/readyz") == (503, "draining")
    stack.service._tasks[0].cancel()
    await asyncio.sleep(0)
    assert await get("/healthz") == (503, "a task ended")


async def test_metrics(stack: Stack, admin: str, replica: Replica) -> None:
    """The names and labels of the user contract, born with an endpoint's first request."""
    text = await _metrics(stack.session, admin)
    assert "zerotide_build_info" in text
    assert "inference_endpoint=" not in text
    stack.endpoint()
    stack.key()
    first = asyncio.create_task(stack.post())
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: endpoint.gate.held)
    text = await _metrics(stack.session, admin)
    assert 'zerotide_held_requests{inference_endpoint="m",namespace="demo"} 1.0' in text, "while it is held already"
    stack.pod(replica.port)
    await first
    await stack.post()
    stack.endpoint(suspend=True)
    await stack.post()
    text = await _metrics(stack.session, admin)
    at = 'inference_endpoint="m",namespace="demo"'
    for line in (
        f'zerotide_requests_total{{code="200",cold="true",{at}}} 1.0',
        f'zerotide_requests_total{{code="200",cold="false",{at}}} 1.0',
        f'zerotide_requests_total{{code="500",cold="false",{at}}} 1.0',
        f'zerotide_requests_rejected_total{{code="suspended",{at}}} 1.0',
        f'zerotide_request_duration_seconds_count{{cold="true",{at}}} 1.0',
        f'zerotide_time_to_first_byte_seconds_bucket{{cold="true",{at},le="655.36"}} 1.0',
        f"zerotide_hold_seconds_count{{{at}}} 1.0",
        f"zerotide_held_requests{{{at}}} 0.0",
        f"zerotide_held_bytes{{{at}}} 0.0",
        f"zerotide_in_flight_requests{{{at}}} 0.0",
        f"zerotide_upstream_retries_total{{{at}}} 0.0",
    ):
        assert sorted_labels(line) in [sorted_labels(each) for each in text.splitlines()], line
    assert text.endswith("# EOF\n")


async def _metrics(session: aiohttp.ClientSession, admin: str) -> str:
    async with session.get(admin + "/metrics") as response:
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        return await response.text()


def sorted_labels(line: str) -> str:
    """Return a line of metrics with its labels in order."""
    name, brace, rest = line.partition("{")
    if not brace:
        return line
    labels, _, value = rest.rpartition("}")
    return f"{name}{{{','.join(sorted(labels.split(',')))}}}{value}"
