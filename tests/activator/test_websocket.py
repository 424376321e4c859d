"""WebSocket through the activator, with the `websockets` library on both sides."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.http11 import Request, Response

from tests.activator.replica import Received, Replica, send
from tests.activator.stack import Stack, until
from zerotide.api.usage import Outcome

PLAIN: dict[str, Any] = {"max_size": None, "compression": None}
SPEC: dict[str, Any] = {"request": {"webSocket": "Enabled", "extraPaths": ["/v1/realtime"]}}


class Engine:
    """A model that talks over WebSocket, and has a health route."""

    def __init__(self) -> None:
        self.opened: list[ServerConnection] = []
        self.port = 0

    async def answer(self, connection: ServerConnection) -> None:
        """Say everything again; end on demand."""
        self.opened.append(connection)
        async for message in connection:
            if message == "end":
                return
            if message == "break":
                connection.transport.abort()
                return
            await connection.send(message)

    def health(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer the probe, and refuse one path."""
        if request.path == "/health":
            return connection.respond(HTTPStatus.OK, "")
        return connection.respond(HTTPStatus.IM_A_TEAPOT, "no tea") if "tea" in request.path else None


@asynccontextmanager
async def engine(handler: Callable[[ServerConnection], Awaitable[None]] | None = None) -> AsyncIterator[Engine]:
    """Serve one."""
    made = Engine()
    async with serve(handler or made.answer, "127.0.0.1", 0, process_request=made.health, max_size=None) as server:
        made.port = next(iter(server.sockets)).getsockname()[1]
        yield made


async def awake(stack: Stack, made: Engine, **spec: Any) -> None:
    """Have an endpoint with this replica, and a key."""
    endpoint = stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, **{**SPEC, **spec})
    stack.key()
    stack.pod(made.port)
    await until(lambda: not endpoint.gate.cold)


def talk(stack: Stack, path: str = "/v1/realtime?model=m", **more: Any) -> connect:
    """Open a WebSocket as the caller."""
    headers = {"Authorization": f"Bearer {stack.keys['k']}"} if "k" in stack.keys else {}
    return connect(f"ws://127.0.0.1:{stack.service.port}{path}", additional_headers=headers, **{**PLAIN, **more})


async def test_messages_pass_both_ways(stack: Stack) -> None:
    """Text, bytes, subprotocols, a clean end; it counts as one request, metered by its span."""
    async with engine() as made:
        await awake(stack, made)
        async with talk(stack) as client:
            assert client.response is not None
            assert client.response.headers["X-Zerotide-Cold-Start"] == "false"
            for message in ("hello", b"\x00\xff", "x" * 300_000):
                await client.send(message)
                assert await client.recv() == message
            demand = stack.tracker.demand("demo/m")
            assert demand is not None
            assert (demand.in_flight, demand.arrivals) == (1, 1)
            seen = made.opened[0].request
            assert seen is not None
            assert "Authorization" not in seen.headers
            assert seen.headers["Host"] == "m.demo"
            await client.send("end")
            with pytest.raises(ConnectionClosedOK):
                await client.recv()
        await until(lambda: stack.records()[1])
        (intent,), (settlement,) = stack.records()
        assert (intent.consumer, intent.endpoint) == ("demo/team-a", "m")
        assert (settlement.outcome, settlement.status) == (Outcome.COMPLETED, 101)
        assert settlement.response_bytes > 300_000
        demand = stack.tracker.demand("demo/m")
        assert demand is not None
        assert demand.in_flight == 0
        await until(lambda: not stack.service.server.connections)


@pytest.mark.parametrize("path", ["/endpoints/demo/m/v1/realtime", "/v1/realtime?model=m"])
async def test_from_zero(stack: Stack, path: str) -> None:
    """The upgrade is held while the endpoint wakes, and what the client says first is not lost."""
    endpoint = stack.endpoint(status={"desiredReplicas": 1}, **SPEC)
    stack.key()

    async def go() -> str:
        async with talk(stack, path) as client:
            await client.send("hello")
            return str(await client.recv())

    task = asyncio.create_task(go())
    await until(lambda: endpoint.gate.held == 1)
    async with engine() as made:
        stack.pod(made.port)
        assert await task == "hello"


async def test_a_client_that_leaves_while_it_is_held(stack: Stack) -> None:
    """Its place is free at once; what it said too early is kept within bounds, and no more is read."""
    endpoint = stack.endpoint(status={"desiredReplicas": 1}, **SPEC)
    stack.key()
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    lines = ["GET /v1/realtime?model=m HTTP/1.1", "Host: x", f"Authorization: Bearer {stack.keys['k']}"]
    lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    writer.write("\r\n".join([*lines, "", "early"]).encode())
    await until(lambda: endpoint.gate.held == 1)
    writer.write(b"more")
    await asyncio.sleep(0.05)
    writer.close()
    await until(lambda: not endpoint.gate.held)
    assert not await reader.read()


async def refusal(stack: Stack, path: str = "/v1/realtime?model=m") -> tuple[int, str]:
    """Return status and code of a refused upgrade."""
    with pytest.raises(InvalidStatus) as caught:
        async with talk(stack, path):
            pass
    return caught.value.response.status_code, caught.value.response.headers.get("X-Zerotide-Error", "")


async def test_refusals(stack: Stack) -> None:
    """Without a key, on other paths, where it is not allowed: as any request, and nothing is opened."""
    async with engine() as made:
        stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, **SPEC)
        stack.pod(made.port)
        assert await refusal(stack) == (401, "invalid_api_key")
        stack.key()
        assert await refusal(stack, "/v1/other?model=m") == (404, "route_not_found")
        assert await refusal(stack, "/v1/realtime") == (400, "invalid_request")
        assert await refusal(stack, "/v1/realtime?model=none") == (404, "model_not_found")
        stack.endpoint(request={"extraPaths": ["/v1/realtime"]})
        assert await refusal(stack) == (400, "invalid_request")
        assert not made.opened


async def test_a_replica_that_refuses(stack: Stack) -> None:
    """Its answer passes as it is, and the connection ends."""
    async with engine() as made:
        await awake(stack, made, request={"webSocket": "Enabled", "extraPaths": ["/tea"]})
        with pytest.raises(InvalidStatus) as caught:
            async with talk(stack, "/tea?model=m"):
                pass
        assert (caught.value.response.status_code, caught.value.response.body) == (418, b"no tea")
        await until(lambda: not stack.service.server.connections)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_answers_that_are_no_agreement(stack: Stack, replica: Replica, answer: bytes) -> None:
    """Only a replica that answered this very client's key gets a tunnel."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == "/health":
            send(writer, 200, b"")
            return
        writer.write(answer)
        await writer.drain()
        writer.close()
        raise ConnectionResetError

    replica.behave = behave
    replica._answer_get = lambda request, writer: None  # type: ignore[method-assign]
    replica._answer = behave  # type: ignore[method-assign]
    await stack.awake(replica, **SPEC)
    assert await refusal(stack) == (502, "upstream_lost")


async def test_a_replica_that_breaks_off(stack: Stack) -> None:
    """The client learns that this was no proper end."""
    async with engine() as made:
        await awake(stack, made)
        async with talk(stack) as client:
            await client.send("break")
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is None
        await until(lambda: stack.records()[1])


async def test_a_client_that_leaves(stack: Stack) -> None:
    """Its replica is told, its place is free."""
    async with engine() as made:
        await awake(stack, made)
        async with talk(stack) as client:
            await client.send("x")
            await client.recv()
            client.transport.abort()
        await until(lambda: stack.records()[1])
        assert stack.records()[1][0].outcome is Outcome.CLIENT_GONE
        await made.opened[0].wait_closed()
        await until(lambda: not stack.service.server.connections)


async def test_an_end_by_time_and_by_drain(stack: Stack) -> None:
    """It lives no longer than a request may, and no longer than the activator; never with a closing frame."""
    async with engine() as made:
        await awake(stack, made, request={**SPEC["request"], "timeout": "1s"})
        async with talk(stack) as client:
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is None
        await awake(stack, made)
        async with talk(stack) as client:
            await client.send("x")
            await client.recv()
            settings = stack.service.settings
            stack.service.settings = dataclasses.replace(settings, drain_listen=0.1, drain_timeout=0.2)
            await stack.service.drain()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is None
            await until(lambda: len(stack.records()[1]) == 2)
            assert [each.outcome for each in stack.records()[1]] == [Outcome.TIMED_OUT] * 2


async def stands_still(count: Callable[[], int]) -> int:
    """Return a count once it has not moved for half a second."""
    stood, before = 0, -1
    while stood < 10:
        stood, before = (stood + 1, count()) if count() == before else (0, count())
        await asyncio.sleep(0.05)
    return before


async def test_a_slow_end_makes_the_other_one_wait(stack: Stack) -> None:
    """In both directions: what one side does not read is not taken from the other."""
    sent = 0
    release = asyncio.Event()

    async def pour(connection: ServerConnection | ClientConnection) -> None:
        nonlocal sent
        for _ in range(1000):
            await connection.send(bytes(65536))
            sent += 65536

    async def handler(connection: ServerConnection) -> None:
        if connection.request is not None and "down" in connection.request.path:
            await pour(connection)
        else:
            connection.transport.pause_reading()
            await release.wait()
            connection.transport.resume_reading()
            received = 0
            while received < 1000 * 65536:
                received += len(await connection.recv())

    async with engine(handler) as made:
        await awake(stack, made)
        async with talk(stack, "/v1/realtime?model=m&down", max_queue=4) as client:
            assert 0 < await stands_still(lambda: sent) < 32 * 1024 * 1024
            for _ in range(1000):
                await client.recv()
        sent = 0
        async with talk(stack) as client:
            task = asyncio.create_task(pour(client))
            assert 0 < await stands_still(lambda: sent) < 32 * 1024 * 1024
            release.set()
            await task
