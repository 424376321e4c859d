"""The server's side of the wire: requests in, answers out, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from zerotide.activator.failures import PeerFault
from zerotide.activator.traffic.replies import answer_to_fault, rejection_of
from zerotide.activator.wire import Exchange, Limits, Server
from zerotide.activator.wire.listening import open_socket

QUICK = replace(
    Limits(), head_time=0.2, idle_time=0.2, body_time=0.2, body_progress=10, linger_time=0.2, write_time=0.5, sweep=0.02
)


async def echo(exchange: Exchange) -> None:
    """Answer with the request."""
    try:
        body = await exchange.read_body(1000)
    except PeerFault as fault:
        exchange.send(rejection_of(fault).row.status, [], fault.message.encode())
        return
    request = exchange.request
    exchange.send(200, [(b"x-target", request.target.encode())], request.method.encode() + b" " + body)


@asynccontextmanager
async def serving(
    handler: Callable[[Exchange], Awaitable[None]] = echo, limits: Limits = QUICK, silence: float = 60.0
) -> AsyncIterator[tuple[Server, int]]:
    """Serve with a handler; a peer that vanished is noticed after about twice `silence` seconds."""

    async def handle(exchange: Exchange) -> None:
        await handler(exchange)

    server = Server(handle, answer_to_fault, limits)
    port = await server.listen(open_socket("127.0.0.1", 0, silence=silence))
    try:
        yield server, port
    finally:
        await server.close()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        status = int(head[0].split(" ")[1])
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return status, headers, body

    async def rest(self) -> bytes:
        """Read until the other side closes; empty after a reset."""
        try:
            async with asyncio.timeout(5):
                return await self.reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Raw]:
    """Connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


async def test_requests_one_after_another() -> None:
    """A connection is kept, and bodies are read however they are framed and however they arrive."""
    async with serving() as (_, port), connected(port) as client:
        client.send(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.answer() == (200, {"x-target": "/a?b", "content-length": "4"}, b"GET ")
        for byte in b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer())[2] == b"POST abc"
        client.send(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"1\r\nA\r\n2;e=1\r\nBC\r\n0\r\nT: 1\r\n\r\n")
        assert (await client.answer())[2] == b"POST ABC"
        client.send(b"POST /d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"POST ")
        assert await client.rest() == b""


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Requests that come at once are answered one after the other."""
    release = asyncio.Event()
    began: list[str] = []

    async def slow(exchange: Exchange) -> None:
        began.append(exchange.request.target)
        await release.wait()
        await echo(exchange)

    async with serving(slow) as (_, port), connected(port) as client:
        client.send(b"".join(b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d" % (n, n) for n in range(5)))
        while not began:
            await asyncio.sleep(0.01)
        assert began == ["/0"]
        release.set()
        assert [(await client.answer())[2] for _ in range(5)] == [b"POST %d" % n for n in range(5)]


async def test_too_many_pipelined_requests() -> None:
    """They are a way to make a server remember things: those within the bound are answered, then it ends."""
    async with serving() as (_, port), connected(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert (await client.rest()).count(b"200 OK") <= QUICK.pipelined + 1


async def test_head_and_bodiless_statuses() -> None:
    """HEAD tells the length and sends no body; neither does 204."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.send(200, [], b"12345")
        else:
            exchange.send(204, [])

    async with serving(handler) as (_, port), connected(port) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nOPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 5" in head
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_streams_are_chunked() -> None:
    """A body of unknown length is sent piece by piece, and ends with an empty one."""

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        for part in (b"a", b"", b"bc"):
            exchange.write(part)
        exchange.end()

    async with serving(handler) as (_, port), connected(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readexactly(17) == b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"[:17]


async def test_a_cut_answer_lacks_its_end() -> None:
    """What was written arrives, then the connection ends without the last chunk."""

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.write(b"x" * 100_000)
        exchange.cut()

    async with serving(handler) as (_, port), connected(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        rest = await client.rest()
        assert rest.endswith(b"xx\r\n")
        assert len(rest) > 100_000


async def test_a_handler_that_fails_or_forgets() -> None:
    """The connection is closed: a client never waits for an answer that nobody will write."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == "/fails":
            raise LookupError("a bug")

    async with serving(handler) as (_, port):
        for target in (b"/fails", b"/forgets"):
            async with connected(port) as client:
                client.send(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert await client.rest() == b""


async def test_the_handler_is_cancelled_when_the_client_leaves() -> None:
    """Whether it closes its side or all of it."""
    ended = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            assert exchange.gone
            exchange.send(200, [], b"nobody")
            ended.set()

    async with serving(handler) as (server, port):
        for half in (True, False):
            ended.clear()
            async with connected(port) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await asyncio.sleep(0.05)
                if half:
                    client.writer.write_eof()
                else:
                    client.writer.transport.abort()
                async with asyncio.timeout(5):
                    await ended.wait()
        assert not server.connections


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: ", b"did not arrive within"),
        (b"", b""),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", b"made no progress"),
    ],
)
async def test_deadlines(sent: bytes, told: bytes) -> None:
    """Heads, bodies and idle connections have theirs; a client that is slow on purpose costs little."""
    async with serving() as (server, port), connected(port) as client:
        client.send(sent)
        assert told in await client.rest()
        assert server.buffered == 0
        while server.connections:
            await asyncio.sleep(0.01)


async def test_dripping_is_no_progress() -> None:
    """A head that grows byte by byte does not live longer; a body must bring enough bytes at a time."""
    async with serving() as (_, port), connected(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
        loop = asyncio.get_running_loop()
        began = loop.time()
        reading = asyncio.create_task(client.rest())
        while not reading.done():
            client.send(b"x")
            await asyncio.sleep(0.05)
        assert b"made no progress" in await reading
        assert loop.time() - began < 2


async def test_a_client_that_never_reads_is_dropped() -> None:
    """After a while without any progress."""

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.write(bytes(50_000_000))
        await asyncio.Event().wait()

    async with serving(handler) as (server, port), connected(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            while not server.connections:
                await asyncio.sleep(0.01)
            while server.connections:
                await asyncio.sleep(0.01)
        assert len(await client.rest()) < 50_000_000, "what the kernel had taken, and no more"


async def test_bodies_have_a_common_bound() -> None:
    """When all bodies together are too large, one more is refused; memory is given back at the end."""
    limits = replace(QUICK, buffered_bytes=1500, body_time=5.0)
    async with serving(limits=limits) as (server, port), connected(port) as first, connected(port) as second:
        first.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 999)
        while server.buffered != 999:
            await asyncio.sleep(0.01)
        second.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n" + b"x" * 600)
        assert (await second.answer())[0] == 429
        first.send(b"x")
        assert (await first.answer())[0] == 200
        assert server.buffered == 0


async def test_a_body_that_nobody_asked_for_is_not_read() -> None:
    """Beyond a little, it stays in the client's buffers until somebody asks."""
    ask = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await ask.wait()
        exchange.send(200, [], b"%d" % len(await exchange.read_body(10_000_000)))

    async with serving(handler, replace(QUICK, body_time=5.0)) as (server, port), connected(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n" + bytes(8_000_000))
        await asyncio.sleep(0.2)
        assert server.buffered < 1_000_000
        ask.set()
        assert (await client.answer())[2] == b"8000000"


async def test_too_large_bodies() -> None:
    """Announced or not, a body beyond the limit is refused, and the client gets to read why."""
    async with serving() as (_, port):
        for framing in (
            b"Content-Length: 500000\r\n\r\n" + bytes(500_000),
            b"Transfer-Encoding: chunked\r\n\r\n7a120\r\n" + bytes(500_000),
        ):
            async with connected(port) as client:
                client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing)
                status, headers, body = await client.answer()
                assert (status, headers["connection"]) == (413, "close")
                assert b"larger than 1000 bytes" in body


async def test_more_connections_than_allowed() -> None:
    """They are closed at once."""
    async with serving(limits=replace(QUICK, connections=1, idle_time=5.0)) as (_, port), connected(port) as first:
        first.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await first.answer()
        async with connected(port) as second:
            assert await second.rest() == b""
        first.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await first.answer())[0] == 200


async def test_draining() -> None:
    """Requests are still answered, and each answer ends its connection; idle ones end when told."""
    async with serving(limits=replace(QUICK, idle_time=5.0)) as (server, port):
        async with connected(port) as idle, connected(port) as busy:
            idle.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert "connection" not in (await idle.answer())[1]
            server.drain()
            busy.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await busy.answer())[1]["connection"] == "close"
            assert await busy.rest() == b""
            server.shut_idle()
            assert await idle.rest() == b""
        server.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_upgrades_but_websocket_are_ignored() -> None:
    """A client that offers h2c is served in HTTP/1.1, body and all."""
    async with serving() as (_, port), connected(port) as client:
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        client.send(
            b"POST /x HTTP/1.1\r\nHost: x\r\n"
            + offer
            + b"Content-Length: 3\r\n\r\nabcGET /y HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert (await client.answer())[2] == b"POST abc"
        assert (await client.answer())[1]["x-target"] == "/y"
