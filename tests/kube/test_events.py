"""Events without a server: what must be told is told exactly once, whatever fails and whoever tells it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zerotide.kube import AlreadyExists, ConnectionFailed, Forbidden, KubeError, Notice, Recorder, events

ENDPOINT = {
    "apiVersion": "zerotide.dev/v1alpha1",
    "kind": "InferenceEndpoint",
    "metadata": {"name": "a", "namespace": "demo", "uid": "u1"},
}
WARNING = Notice("Warning", "ImagePullFailed", "no such tag")


class Server:
    """The part of the API server that keeps Events, and refuses as often as it is told."""

    def __init__(self, *refusals: KubeError) -> None:
        self.refusals = list(refusals)
        self.kept: dict[str, dict[str, Any]] = {}
        self.asked = 0

    async def create(self, resource: Any, obj: dict[str, Any]) -> dict[str, Any]:
        """Keep an Event."""
        self.asked += 1
        if self.refusals:
            raise self.refusals.pop(0)
        name = obj["metadata"]["name"]
        if name in self.kept:
            raise AlreadyExists(409, "AlreadyExists", name)
        self.kept[name] = obj
        return obj


async def told(server: Server, *orders: tuple[Notice, str], processes: int = 1) -> list[tuple[str, str]]:
    """Have each of several processes tell the same, one after another; return what is kept then."""
    client: Any = server
    for number in range(processes):
        recorder = Recorder(client, "tester", f"tester-{number}", rate=1000.0)
        for notice, once in orders:
            recorder.tell_once(ENDPOINT, notice, once)
        running = asyncio.create_task(recorder.run())
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return [(item["reason"], item["message"]) for item in server.kept.values()]


async def test_a_successor_that_tells_it_again_adds_nothing() -> None:
    """The name says what it is about; another occasion is another Event."""
    server = Server()
    assert await told(server, (WARNING, "1"), (WARNING, "1"), processes=3) == [("ImagePullFailed", "no such tag")]
    assert server.asked == 3, "once for each process"
    assert await told(server, (WARNING, "2")) == [("ImagePullFailed", "no such tag")] * 2
    (first, _) = server.kept.values()
    assert first["involvedObject"]["uid"] == "u1" and first["type"] == "Warning" and first["count"] == 1


async def test_what_a_process_did_not_get_to_tell_its_successor_tells() -> None:
    """Nothing is lost with a process that ends between the status and the Event."""
    server = Server()
    client: Any = server
    Recorder(client, "tester", "tester-0").tell_once(ENDPOINT, WARNING, "1")
    assert server.kept == {}
    assert await told(server, (WARNING, "1")) == [("ImagePullFailed", "no such tag")]


async def test_a_failed_write_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that is away for a moment costs no Event."""
    monkeypatch.setattr(events, "RETRY", 0.01)
    server = Server(ConnectionFailed("away"), ConnectionFailed("away"))
    assert await told(server, (WARNING, "1")) == [("ImagePullFailed", "no such tag")]
    assert server.asked == 3


async def test_a_refusal_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to write, or in a namespace that goes, trying again is in vain."""
    monkeypatch.setattr(events, "RETRY", 0.01)
    server = Server(Forbidden(403, "Forbidden", "no"))
    assert await told(server, (WARNING, "1")) == []
    assert server.asked == 1
