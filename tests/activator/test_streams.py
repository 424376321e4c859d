"""Streams that wait, and answers that break off: clients must be able to tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import aiohttp
import pytest

from tests.activator.replica import Events, Received, Replica, reset, send_json, truncate
from tests.activator.stack import Stack, until
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.api.usage import Outcome, Tokens

CHAT = {"model": "m", "messages": [], "stream": True}


def beating(stack: Stack, **spec: Any) -> Endpoint:
    """Make a sleeping endpoint whose heart beats faster than users may ask for."""
    endpoint = stack.endpoint(status={"desiredReplicas": 1}, **spec)
    stack.registry.set_profile(replace(endpoint.profile, heartbeat=0.2, state="Loading"))
    return endpoint


class Reader:
    """A streamed answer, read to its end, good or bad."""

    asks: ClassVar[Mapping[str, str]] = {}
    """Headers with which it is asked for."""

    def __init__(self) -> None:
        self.text = ""
        self.headers: dict[str, str] = {}
        self.status = 0
        self.cut = False

    async def read(
        self,
        stack: Stack,
        path: str = "/v1/chat/completions",
        body: Any = CHAT,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Send the request and read all that comes."""
        sent = {"authorization": f"Bearer {stack.keys['k']}", **(self.asks if headers is None else headers)}
        async with stack.session.post(stack.url + path, json=body, headers=sent) as response:
            self.status, self.headers = response.status, {k.lower(): v for k, v in response.headers.items()}
            try:
                async for chunk in response.content.iter_any():
                    self.text += chunk.decode()
            except aiohttp.ClientPayloadError:
                self.cut = True
        return self

    @property
    def comments(self) -> list[str]:
        """Return the comments."""
        return [line for line in self.text.split("\n") if line.startswith(":")]

    @property
    def events(self) -> list[str]:
        """Return the data of the events."""
        return [line[6:] for line in self.text.split("\n") if line.startswith("data: ")]


async def test_heartbeats_then_the_answer(stack: Stack, replica: Replica) -> None:
    """A stream that waits is told how it stands; then the answer comes, as if nothing had been."""
    endpoint = beating(stack)
    endpoint.starts.add(60_000_000)
    stack.key()
    reader = Reader()
    task = asyncio.create_task(reader.read(stack))
    await until(lambda: len(reader.comments) == 2)
    stack.pod(replica.port)
    await task
    assert reader.comments[0] == ": zerotide state=Loading elapsed=0s ready-in=60s"
    assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert reader.headers["x-zerotide-cold-start"] == "true"
    assert len(reader.headers["x-request-id"]) == 32
    assert reader.events[-1] == "[DONE]"
    assert not reader.cut


async def test_no_heartbeats_to_those_who_do_not_stream(stack: Stack, replica: Replica) -> None:
    """A client that expects JSON gets nothing before it."""
    endpoint = beating(stack)
    stack.key()
    task = asyncio.create_task(stack.post())
    await until(lambda: endpoint.gate.held)
    await asyncio.sleep(0.3)
    stack.pod(replica.port)
    assert (await task).json["object"] == "chat.completion"


async def test_a_failure_after_the_commit_is_an_event(stack: Stack) -> None:
    """The error comes first in its object, with the status it would have had; then the connection breaks off."""
    beating(stack)
    stack.key()
    reader = Reader()
    task = asyncio.create_task(reader.read(stack))
    await until(lambda: reader.comments)
    condition = {"type": "Accepting", "status": "False", "reason": "CrashLooping", "message": "exit 1"}
    more = {"lastTransitionTime": "2026-11-22T10:00:00Z", "observedGeneration": 1}
    stack.endpoint(status={"conditions": [{**condition, **more}]})
    await task
    assert reader.cut
    assert reader.events[-1].startswith('{"error":{')
    error = json.loads(reader.events[-1])["error"]
    assert (error["status"], error["code"]) == (500, "crash_looping")


async def test_a_failure_after_the_commit_in_tgis_shape(stack: Stack) -> None:
    """TGI's clients look for `error` and `error_type`."""
    beating(stack, hold={"coldTimeout": "1s"})
    stack.key()
    reader = await Reader().read(stack, "/endpoints/demo/m/generate_stream", {"inputs": "x"})
    assert reader.cut
    assert json.loads(reader.events[-1])["error_type"] == "hold_timeout"
    assert json.loads(reader.events[-1])["status"] == 503


@pytest.mark.parametrize("told", [{"error": {"message": "too long", "type": "bad"}}, "too long", ["x"]])
async def test_an_engines_error_after_the_commit(stack: Stack, replica: Replica, told: Any) -> None:
    """An upstream 4xx cannot be a status any more: it is an event."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        send_json(writer, told, 400)

    replica.behave = behave
    beating(stack)
    stack.key()
    reader = Reader()
    task = asyncio.create_task(reader.read(stack))
    await until(lambda: reader.comments)
    stack.pod(replica.port)
    await task
    assert (reader.status, reader.cut) == (200, True)
    error = json.loads(reader.events[-1])["error"]
    assert error["status"] == 400
    assert error["message"]


async def test_an_answer_that_is_no_stream_after_the_commit(stack: Stack, replica: Replica) -> None:
    """An engine that does not stream answers in one event."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        send_json(writer, {"a": 1})

    replica.behave = behave
    beating(stack)
    stack.key()
    reader = Reader()
    task = asyncio.create_task(reader.read(stack))
    await until(lambda: reader.comments)
    stack.pod(replica.port)
    await task
    assert [json.loads(event) for event in reader.events] == [{"a": 1}]
    assert not reader.cut


async def test_a_truncated_stream_is_an_error(stack: Stack, replica: Replica) -> None:
    """Whole events pass, the half one does not; an error event follows, and the end is no end."""
    replica.behave = truncate
    await stack.awake(replica)
    reader = await Reader().read(stack)
    assert reader.cut
    assert len(reader.events) == 4
    assert json.loads(reader.events[-1])["error"]["code"] == "upstream_lost"
    assert "half" not in reader.text
    settlement = stack.records()[1][0]
    assert settlement.outcome is Outcome.LOST
    assert settlement.tokens == Tokens(input=0, output=3, estimated=True)


async def test_a_client_that_leaves_a_stream_has_used_what_it_got(stack: Stack, replica: Replica) -> None:
    """What was passed on until then is in the usage log, as an estimate."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        stream = Events(writer)
        for word in ("", "a", "b", "c", "d"):
            await stream.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": word}}]})
        await asyncio.Event().wait()

    replica.behave = behave
    await stack.awake(replica)
    headers = {"authorization": f"Bearer {stack.keys['k']}"}
    async with stack.session.post(stack.url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
        seen = b""
        while seen.count(b"data:") < 5:
            seen += await response.content.readany()
        response.close()
    await until(lambda: stack.records()[1])
    settlement = stack.records()[1][0]
    assert settlement.outcome is Outcome.CLIENT_GONE
    assert settlement.tokens == Tokens(input=0, output=4, estimated=True)


async def test_a_truncated_body_is_cut(stack: Stack, replica: Replica) -> None:
    """A body that breaks off ends before its announced length."""
    replica.behave = truncate
    await stack.awake(replica)
    with pytest.raises(aiohttp.ClientPayloadError):
        await stack.post()


async def test_a_replica_lost_before_its_answer_is_tried_again(stack: Stack, replica: Replica) -> None:
    """The request goes to another replica, in its old place, and the client never knows."""
    endpoint = await stack.awake(replica)
    async with Replica() as other:

        async def die(request: Received, writer: asyncio.StreamWriter) -> None:
            stack.pod(other.port, name="m-2")
            stack.delete_pod("m-1")
            await reset(request, writer)

        replica.behave = die
        assert (await stack.post()).status == 200
        assert len(other.posts) == 1
    outcomes = [settlement.outcome for settlement in stack.records()[1]]
    assert outcomes[-1] is Outcome.COMPLETED
    assert set(outcomes[:-1]) == {Outcome.LOST}
    assert [intent.attempt for intent in stack.records()[0]] == list(range(1, len(outcomes) + 1))
    assert endpoint.gate.held == 0


async def test_own_retries_are_bounded(stack: Stack, replica: Replica) -> None:
    """A request that kills every replica it comes to is given up after three."""
    await stack.awake(replica)
    replica.behave = reset
    answer = await stack.post()
    assert (answer.status, answer.code) == (502, "upstream_lost")
    assert answer.headers["x-should-retry"] == "false"
    assert len(stack.records()[0]) == 3
    # Each attempt over a connection that had served before was repeated once on a fresh one.
    assert 3 <= len(replica.posts) <= 6


async def test_a_refused_connection_is_no_error(stack: Stack, replica: Replica) -> None:
    """A pod that listens no more is asked again until it does, and then served."""
    await stack.awake(replica)
    await replica.__aexit__()
    task = asyncio.create_task(stack.post())
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: endpoint.gate.held == 1)
    await replica.__aenter__()
    assert (await task).status == 200


async def test_an_idle_connection_that_the_replica_closed(stack: Stack, replica: Replica) -> None:
    """It is not the replica's failure: the request goes out again on a fresh connection."""

    async def close(request: Received, writer: asyncio.StreamWriter) -> None:
        replica.behave = None
        await reset(request, writer)

    await stack.awake(replica)
    await stack.post()
    replica.behave = close
    assert (await stack.post()).status == 200
    assert [intent.attempt for intent in stack.records()[0]] == [1, 1]


async def test_request_timeout(stack: Stack, replica: Replica) -> None:
    """An answer that takes longer than request.timeout is 504, and the replica is told to stop."""
    replica.hold = asyncio.Event()
    await stack.awake(replica, request={"timeout": "1s"})
    answer = await stack.post()
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert stack.records()[1][0].outcome is Outcome.TIMED_OUT


async def test_a_stream_that_takes_too_long(stack: Stack, replica: Replica) -> None:
    """The timeout counts to the last byte; a stream learns of it by an event."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode() + b"9\r\ndata: 1\n\n\r\n")
        await asyncio.Event().wait()

    replica.behave = behave
    await stack.awake(replica, request={"timeout": "1s"})
    reader = await Reader().read(stack)
    assert reader.cut
    assert reader.events[0] == "1"
    assert json.loads(reader.events[1])["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_answers_that_are_not_http(stack: Stack, replica: Replica, head: bytes) -> None:
    """What could be read in two ways is passed on in none."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head)

    replica.behave = behave
    await stack.awake(replica)
    answer = await stack.post()
    assert (answer.status, answer.code) == (502, "upstream_lost")


async def test_an_answer_until_the_end_of_the_connection(stack: Stack, replica: Replica) -> None:
    """HTTP/1.0 servers end their answer with the connection; our client gets it whole, in chunks."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        writer.write(b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"a":')
        writer.write(b"1}")
        await writer.drain()
        writer.close()
        raise ConnectionResetError

    replica.behave = behave
    await stack.awake(replica)
    answer = await stack.post()
    assert (answer.status, answer.json) == (200, {"a": 1})
    assert answer.headers["transfer-encoding"] == "chunked"
