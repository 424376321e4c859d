"""Requests that are ended from outside, and traffic that goes on whatever becomes of the rest of the system."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.activator.replica import Events, Received, Replica
from tests.activator.stack import Stack, gather, until
from tests.activator.test_streams import CHAT, Reader
from zerotide.activator.wire import Limits
from zerotide.api.usage import Outcome


@pytest.fixture
async def brief(tmp_path: Path) -> AsyncIterator[Stack]:
    """Run an activator whose requests live for 0.3 s."""
    limits = replace(Limits(), request_age=0.3, sweep=0.02, body_bytes=2048)
    async with Stack(tmp_path / "usage", limits) as running:
        yield running


def draining(stack: Stack, listen: float, timeout: float) -> asyncio.Task[None]:
    """Begin to drain."""
    stack.service.settings = replace(stack.service.settings, drain_listen=listen, drain_timeout=timeout)
    return asyncio.create_task(stack.service.drain())


async def endless(request: Received, writer: Any) -> None:
    """Stream for ever."""
    stream = Events(writer)
    while True:
        await stream.event({"choices": [{"index": 0, "delta": {"content": "x"}}]})
        await asyncio.sleep(0.01)


async def test_a_request_that_is_too_old_is_ended_where_it_waits(brief: Stack) -> None:
    """A held one gets 504, and leaves the queue."""
    endpoint = brief.endpoint()
    brief.key()
    answer = await brief.post()
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert "lived longer than 0.3 s" in answer.json["error"]["message"]
    assert not endpoint.gate.held
    assert brief.service.gateway.active == 0


async def test_a_stream_that_is_too_old_ends_with_an_error(brief: Stack, replica: Replica) -> None:
    """Within the stream, which is then cut; what it used is settled as timed out."""
    replica.behave = endless
    await brief.awake(replica)
    reader = await Reader().read(brief)
    assert reader.cut
    assert json.loads(reader.events[-1])["error"]["status"] == 504
    _, settlements = brief.records()
    assert [record.outcome for record in settlements] == [Outcome.TIMED_OUT]
    await until(lambda: not replica.in_flight)


async def test_no_endpoint_may_take_more_than_the_gateway(brief: Stack, replica: Replica) -> None:
    """The smaller of the two bounds of a body counts."""
    await brief.awake(replica)
    answer = await brief.post(body={"model": "m", "messages": ["x" * 4000]})
    assert (answer.status, answer.code) == (413, "request_too_large")


async def test_draining_keeps_what_is_held_and_what_streams(stack: Stack, replica: Replica) -> None:
    """Not ready any more, yet a held request is served once its replica is there, and new ones are taken a while."""
    stack.endpoint()
    stack.key()
    held = asyncio.create_task(stack.post())
    await until(lambda: stack.service.gateway.active)
    drain = draining(stack, listen=0.4, timeout=30)
    await until(lambda: stack.service.server.draining)
    assert await stack.service._unready() == "draining"
    late = asyncio.create_task(stack.post())
    await asyncio.sleep(0.5)
    assert not drain.done()
    stack.pod(replica.port)
    assert [answer.status for answer in await gather(held, late)] == [200, 200]
    await drain
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", stack.service.port)


async def test_the_end_of_a_drain_is_detectable(stack: Stack, replica: Replica) -> None:
    """Streams that are still going on end with an error within, held requests with a status that clients retry."""
    replica.behave = endless
    await stack.awake(replica)
    stack.endpoint("cold")
    stack.key("other", endpoints=["cold"])
    stream = asyncio.create_task(Reader().read(stack, body=CHAT))
    held = asyncio.create_task(stack.post(body={"model": "cold", "messages": []}, key="other"))
    await until(lambda: replica.in_flight and stack.service.gateway.active == 2)
    await draining(stack, listen=0, timeout=0.2)
    reader, answer = await stream, await held
    assert reader.cut
    assert json.loads(reader.events[-1])["error"]["status"] == 503
    assert (answer.status, answer.code, answer.headers["connection"]) == (503, "hold_timeout", "close")
    assert "retry-after" in answer.headers
    assert stack.service.server.door.faults["shutdown"] == 2


async def test_an_answer_that_is_no_stream_is_cut(stack: Stack, replica: Replica) -> None:
    """Nothing can be added to JSON: a client sees that its end is missing."""

    async def half(request: Received, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        await asyncio.Event().wait()

    replica.behave = half
    await stack.awake(replica)
    reading = asyncio.create_task(Reader().read(stack, body={**CHAT, "stream": False}))
    await until(lambda: replica.in_flight)
    await draining(stack, listen=0, timeout=0.2)
    reader = await reading
    assert (reader.cut, reader.text) == (True, "{")


async def test_warm_traffic_needs_no_api_server(
    stack: Stack, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """Every watch fails, over and over; requests are served, and the process is taken for healthy."""
    await stack.awake(replica)
    for reflector in stack.service.reflectors:
        stack.service._run(reflector.run())
    await until(lambda: sum("watch interrupted" in record.message for record in caplog.records) >= 8)
    stack.api.down = ConnectionError("away")
    assert [answer.status for answer in await gather(*(stack.post() for _ in range(20)))] == [200] * 20
    assert await stack.service._unhealthy() == ""
    assert stack.tracker.unheard.is_set(), "nor an operator"
