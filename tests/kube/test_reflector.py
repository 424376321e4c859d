"""The mirror is true after every gap: nothing lost, nothing told twice. Run against a server that breaks on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.loopback import served
from zerotide.kube import Change, Client, Credentials, Key, Linger, Object, Reflector, reflector
from zerotide.kube.reflector import without_managed_fields
from zerotide.kube.resources import PODS


def pod(name: str, version: int, uid: str = "") -> dict[str, Any]:
    """Make the least that a reflector needs of a pod."""
    metadata = {"namespace": "a", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": {**metadata, "managedFields": [{"manager": "x"}]}}


class Server:
    """Serve scripted lists and watches: each watch plays its lines, then ends, stalls or refuses."""

    def __init__(self) -> None:
        self.lists: list[tuple[list[dict[str, Any]], int]] = []
        self.watches: list[tuple[int, list[dict[str, Any]], bool]] = []
        self.watched_from: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer the next scripted list or watch; hold a watch open when the script is over."""
        if "watch" not in request.query:
            items, version = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})
        self.watched_from.append(request.query["resourceVersion"])
        status, lines, hang = self.watches.pop(0) if self.watches else (200, [], True)
        if status != 200:
            return web.json_response({"code": status, "reason": "Expired", "message": "too old"}, status=status)
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(json.dumps(line).encode() + b"\n")
        if hang:
            await asyncio.Event().wait()
        return response


@asynccontextmanager
async def mirror(server: Server, **options: Any) -> AsyncIterator[tuple[Reflector, asyncio.Queue[Change]]]:
    """Run a reflector against the scripted server and yield it with its changes."""
    app = web.Application()
    app.router.add_get("/api/v1/pods", server.handle)
    changes: asyncio.Queue[Change] = asyncio.Queue()
    async with served(app) as base, Client(Credentials(base, None)) as client:
        reflector = Reflector(client, PODS, on_change=changes.put_nowait, **options)
        task = asyncio.create_task(reflector.run())
        try:
            yield reflector, changes
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def take(changes: asyncio.Queue[Change], count: int) -> list[tuple[str, str, str]]:
    """Wait for so many changes and return (type, name, version) of each."""
    got = [await asyncio.wait_for(changes.get(), 5) for _ in range(count)]
    return [(c.type, c.object["metadata"]["name"], c.object["metadata"]["resourceVersion"]) for c in got]


async def test_list_then_watch() -> None:
    """The list fills the store, the watch goes on from its version, managedFields are dropped."""
    server = Server()
    server.lists = [([pod("x", 1)], 5)]
    server.watches = [
        (200, [{"type": "ADDED", "object": pod("y", 6)}, {"type": "DELETED", "object": pod("x", 7)}], True)
    ]
    async with mirror(server) as (reflector, changes):
        assert await take(changes, 3) == [("set", "x", "1"), ("set", "y", "6"), ("deleted", "x", "7")]
        assert list(reflector.store) == [("a", "y")]
        assert "managedFields" not in reflector.store["a", "y"]["metadata"]
        assert server.watched_from == ["5"] and reflector.synced.is_set()


@pytest.mark.parametrize(
    "gap",
    [
        (410, [], False),
        (200, [{"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}], False),
        (500, [], False),
    ],
)
async def test_what_vanished_in_a_gap_is_reported(gap: tuple[int, list[dict[str, Any]], bool]) -> None:
    """After a gap the list tells which objects were deleted meanwhile, and unchanged ones stay silent."""
    server = Server()
    server.lists = [([pod("x", 1), pod("y", 2)], 5), ([pod("y", 2), pod("z", 8)], 9)]
    server.watches = [gap]
    async with mirror(server) as (reflector, changes):
        got = await take(changes, 4)
        assert got == [("set", "x", "1"), ("set", "y", "2"), ("set", "z", "8"), ("deleted", "x", "1")]
        assert changes.empty() and set(reflector.store) == {("a", "y"), ("a", "z")}


async def test_a_name_used_again_in_a_gap_is_an_end_and_a_start() -> None:
    """The first object's end is an event of its own: somebody was billed for it."""
    server = Server()
    server.lists = [([pod("x", 1, "one")], 5), ([pod("x", 8, "two")], 9)]
    server.watches = [(410, [], False)]
    async with mirror(server) as (_, changes):
        assert await take(changes, 3) == [("set", "x", "1"), ("deleted", "x", "1"), ("set", "x", "8")]


async def test_an_ended_stream_goes_on_where_it_stopped() -> None:
    """A bookmark moves the version, no list is needed, and no change is told twice."""
    server = Server()
    server.lists = [([pod("x", 1)], 5)]
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "42"}}}
    server.watches = [(200, [bookmark], False), (200, [{"type": "MODIFIED", "object": pod("x", 43)}], True)]
    async with mirror(server) as (_, changes):
        assert await take(changes, 2) == [("set", "x", "1"), ("set", "x", "43")]
        assert server.watched_from == ["5", "42"]


async def test_a_silent_stream_is_given_up() -> None:
    """Half-open connections look alive for ever otherwise."""
    server = Server()
    server.lists = [([pod("x", 1)], 5)]
    server.watches = [(200, [], True), (200, [{"type": "MODIFIED", "object": pod("x", 6)}], True)]
    async with mirror(server, stall=0.1) as (_, changes):
        assert await take(changes, 2) == [("set", "x", "1"), ("set", "x", "6")]


async def test_a_watch_without_a_head_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the request and never answers it is broken sooner than one that has nothing to tell."""
    server, headless = Server(), asyncio.Event()
    server.lists = [([pod("x", 1)], 5)]
    server.watches = [(200, [{"type": "MODIFIED", "object": pod("x", 6)}], True)]
    told = server.handle

    async def handle(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query and not headless.is_set():
            headless.set()
            await asyncio.Event().wait()
        return await told(request)

    monkeypatch.setattr(server, "handle", handle)
    monkeypatch.setattr(reflector, "ANSWER", 0.1)
    async with mirror(server) as (_, changes):
        assert await take(changes, 2) == [("set", "x", "1"), ("set", "x", "6")]
        assert headless.is_set()


async def test_who_asks_is_told_of_each_list() -> None:
    """With its version, once the store is what it says."""
    server = Server()
    server.lists = [([pod("x", 1), pod("y", 2)], 5), ([pod("y", 2)], 9)]
    server.watches = [(410, [], False)]
    seen: list[tuple[int, set[str]]] = []
    async with mirror(server, on_list=lambda number: seen.append((number, set()))) as (mirrored, changes):
        mirrored._on_list = lambda number: seen.append((number, {name for _, name in mirrored.store}))
        await take(changes, 3)
        async with asyncio.timeout(5):
            while len(seen) < 2:
                await asyncio.sleep(0.001)
    assert seen == [(5, {"x", "y"}), (9, {"y"})]


async def test_a_failing_handler_does_not_stop_the_mirror(caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged with the object's key, the next change arrives."""
    server = Server()
    server.lists = [([pod("bad", 1), pod("good", 2)], 5)]
    seen: asyncio.Queue[str] = asyncio.Queue()

    def handler(change: Change) -> None:
        if change.object["metadata"]["name"] == "bad":
            raise RuntimeError("cannot take this one")
        seen.put_nowait(change.object["metadata"]["name"])

    async with mirror(server) as (reflector, _):
        reflector._on_change = handler
        assert await asyncio.wait_for(seen.get(), 5) == "good"
    assert any("change handler failed" in record.message for record in caplog.records)


def modified(version: int, **metadata: str) -> dict[str, Any]:
    """Make a change of a pod."""
    obj = pod("x", version)
    obj["metadata"] |= metadata
    return {"type": "MODIFIED", "object": obj}


async def test_changes_may_wait_and_are_taken_in_together_in_order() -> None:
    """None is skipped; the store is as it was meanwhile, and whoever must know it waits for no more than it takes."""
    server = Server()
    server.lists = [([pod("x", 1)], 5)]
    server.watches = [(200, [modified(6), modified(7)], True)]
    linger = Linger(60.0)
    async with mirror(server, linger=linger) as (reflector, changes):
        assert await take(changes, 1) == [("set", "x", "1")]
        async with asyncio.timeout(5):
            while reflector._calm.is_set():
                await asyncio.sleep(0.001)
        assert changes.empty() and reflector.store["a", "x"]["metadata"]["resourceVersion"] == "1"
        linger.over.set()
        await asyncio.wait_for(reflector.caught_up(), 5)
        assert await take(changes, 2) == [("set", "x", "6"), ("set", "x", "7")]


async def test_some_changes_do_not_wait_and_those_that_do_do_not_for_ever() -> None:
    """A text says which; time ends the rest."""
    server = Server()
    server.lists = [([pod("x", 1)], 5)]
    server.watches = [(200, [modified(6, deletionTimestamp="now")], False), (200, [modified(7)], True)]
    async with mirror(server, linger=Linger(60.0, unless=b'"deletionTimestamp"')) as (_, changes):
        assert await take(changes, 2) == [("set", "x", "1"), ("set", "x", "6")]
    server.watches = [(200, [modified(8)], True)]
    async with mirror(server, linger=Linger(0.01)) as (_, changes):
        assert await take(changes, 2) == [("set", "x", "1"), ("set", "x", "8")]


async def test_what_is_known_is_not_read() -> None:
    """The object of that version is taken from whoever knows it; another version, an end and a bookmark are read."""
    server = Server()
    server.lists = [([], 5)]
    bookmark = {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "8"}}}
    lines = [modified(6), modified(7), {"type": "DELETED", "object": pod("x", 7)}, bookmark]
    server.watches = [(200, lines, False), (200, [modified(9)], True)]
    answer = {"metadata": {**pod("x", 6)["metadata"], "labels": {"of": "the answer"}}}
    asked: list[tuple[str, str, str]] = []

    def known(key: Key, version: str) -> Object | None:
        asked.append((*key, version))
        return answer if version == "6" else None

    async with mirror(server, known=known) as (reflector, changes):
        first = await asyncio.wait_for(changes.get(), 5)
        assert (first.type, first.object, first.previous) == ("set", answer, None)
        assert await take(changes, 3) == [("set", "x", "7"), ("deleted", "x", "7"), ("set", "x", "9")]
        assert server.watched_from == ["5", "8"]
        assert reflector.store["a", "x"] == without_managed_fields(pod("x", 9))
    assert asked == [("a", "x", "6"), ("a", "x", "7"), ("a", "x", "9")]


class Following(Server):
    """A server whose watch tells the second of its changes when it is asked to, and ends if it is to."""

    def __init__(self, ends: bool) -> None:
        super().__init__()
        self.ends, self.go = ends, asyncio.Event()
        self.lists = [([], 5)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Tell two changes, one after the other."""
        if "watch" not in request.query or self.watched_from:
            return await super().handle(request)
        self.watched_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(json.dumps(modified(6)).encode() + b"\n")
        await self.go.wait()
        await response.write(json.dumps(modified(7)).encode() + b"\n")
        if not self.ends:
            await asyncio.Event().wait()
        return response


@pytest.mark.parametrize("ends", [False, True])
async def test_what_follows_a_change_is_left_to_the_kernel_for_a_while(ends: bool) -> None:
    """The first comes at once, the next not before that; it is not lost where the watch ends meanwhile."""
    server, rest = Following(ends), 0.2
    server.watches = [(200, [modified(8)], True)]
    came: list[float] = []
    async with mirror(server, rest=rest) as (reflector, changes):

        def note(change: Change) -> None:
            came.append(asyncio.get_running_loop().time())
            changes.put_nowait(change)

        reflector._on_change = note
        assert await take(changes, 1) == [("set", "x", "6")]
        server.go.set()
        assert await take(changes, 1) == [("set", "x", "7")]
        assert came[1] - came[0] > rest * 0.9
        if ends:
            assert await take(changes, 1) == [("set", "x", "8")]
            assert server.watched_from == ["5", "7"]
