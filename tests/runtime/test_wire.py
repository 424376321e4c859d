"""Connections in this process: broken streams, failing handlers, slow readers, silent clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from zerotide_runtime.port import open_port
from zerotide_runtime.server.message import Handler, Request, Response, StreamBroken, StreamResponse
from zerotide_runtime.server.wire import READ_AHEAD, HTTPServer, Limits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def start(handler: Handler, limits: Limits | None = None) -> tuple[HTTPServer, int]:
    server = HTTPServer(handler, limits or Limits(max_body=1 << 20))
    listening = open_port("127.0.0.1", 0)
    await server.start(listening)
    return server, listening.getsockname()[1]


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = b""
    try:
        while piece := await reader.read(65536):
            answer += piece
    finally:
        writer.close()
    return answer


async def stop(server: HTTPServer) -> None:
    server.stop_listening()
    await server.drain(0)


async def test_a_broken_stream_ends_without_its_last_chunk() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        yield b""
        yield b"error"
        raise StreamBroken

    async def handler(request: Request) -> StreamResponse:
        return StreamResponse(chunks())

    server, port = await start(handler)
    answer = await exchange(port, GET)
    assert answer.endswith(b"\r\n\r\n4\r\nhalf\r\n5\r\nerror\r\n")
    await stop(server)


async def test_a_handler_that_fails_cuts_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    finished = []

    async def handler(request: Request) -> Response:
        request.on_finish(lambda: finished.append(request.path))
        if request.path == "/bad":
            raise ZeroDivisionError("oops")
        return Response(200, b"fine")

    server, port = await start(handler)
    with caplog.at_level(logging.ERROR):
        assert await exchange(port, b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    assert "oops" in caplog.text
    assert (await exchange(port, b"GET /good HTTP/1.0\r\n\r\n")).endswith(b"fine")
    assert finished == ["/bad", "/good"]
    await stop(server)


async def test_a_slow_reader_slows_the_stream_down() -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 200:
            sent += 1
            yield b"x" * 100_000

    async def handler(request: Request) -> StreamResponse:
        return StreamResponse(chunks())

    server, port = await start(handler)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
    writer.write(GET)
    await reader.readline()
    before = -1
    while before != sent:  # until the buffers in between are full
        before = sent
        for _ in range(50):
            await asyncio.sleep(0)
    assert sent < 200
    while sent < 200 and await reader.read(1 << 20):
        pass
    assert sent == 200
    writer.close()
    await stop(server)


async def test_a_flood_of_requests_is_not_read_ahead_without_end() -> None:
    started, release = asyncio.Event(), asyncio.Event()
    count = 0

    async def handler(request: Request) -> Response:
        nonlocal count
        count += 1
        started.set()
        await release.wait()
        return Response(200)

    server, port = await start(handler)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    requests = 4 * READ_AHEAD // len(GET)
    writer.write(GET * requests)
    await started.wait()
    (connection,) = server.connections
    release.set()
    answers = await reader.readuntil(b"\r\n\r\n")
    while count < requests:
        answers += await reader.read(65536)
    assert connection.busy or count == requests
    writer.close()
    await stop(server)


async def test_half_a_request_is_not_waited_for_for_ever() -> None:
    async def handler(request: Request) -> Response:
        return Response(200)

    server, port = await start(handler, Limits(max_body=100, receive=0.05, idle=0.05))
    assert await exchange(port, b"GET / HT") == b""
    assert (await exchange(port, GET)).startswith(b"HTTP/1.1 200"), "and an idle connection is closed too"
    await stop(server)


async def test_a_client_that_leaves_ends_its_handler() -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        request.on_finish(left.set)
        entered.set()
        await asyncio.Event().wait()
        return Response(200)

    server, port = await start(handler)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    await entered.wait()
    writer.close()
    await asyncio.wait_for(left.wait(), 10)
    assert not any(connection.busy for connection in server.connections)
    await stop(server)
