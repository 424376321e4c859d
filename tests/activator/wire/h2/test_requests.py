"""Requests and answers over HTTP/2, on real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.activator.wire.h2.client import connected
from tests.activator.wire.test_server import QUICK, echo, serving
from zerotide.activator.wire import Exchange, Server
from zerotide.activator.wire.h2.engine import PREFACE

PATIENT = replace(QUICK, body_time=5.0, idle_time=5.0)


async def gone(server: Server) -> None:
    """Return once every connection ended."""
    async with asyncio.timeout(5):
        while server.connections:
            await asyncio.sleep(0.01)


async def test_requests_beside_one_another() -> None:
    """Many streams on one connection, answered as each is ready; GET, POST, HEAD."""
    release = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == "/late":
            await release.wait()
        await echo(exchange)

    async with serving(handler, PATIENT) as (server, port), connected(port) as client:
        late = client.request(path="/late", body=b"1")
        ids = [client.request(body=b"%d" % number) for number in range(50)]
        assert [(await client.answer(id)).body for id in ids] == [b"POST %d" % number for number in range(50)]
        assert not client.answers[late].ended
        release.set()
        assert (await client.answer(late)).headers["x-target"] == "/late"
        get = await client.answer(client.request(method="GET", path="/a?b"))
        assert (get.status, get.body, get.headers["x-target"]) == (200, b"GET ", "/a?b")
        head = await client.answer(client.request(method="HEAD"))
        assert (head.body, head.headers["content-length"]) == (b"", "5")
        assert server.buffered == 0


async def test_a_preface_in_pieces() -> None:
    """However it arrives, it is one; anything else is no HTTP at all."""
    async with serving() as (_, port), connected(port, begin=False) as client:
        client.engine.initiate_connection()
        for byte in client.engine.data_to_send():
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer(client.request(body=b"x"))).body == b"POST x"
    for broken in (
        PREFACE[:-2] + b"xx",
        PREFACE[:16] + b"\r\nXX\r\n\r\n",
        b"PRI /x HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        async with serving() as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(broken)
            assert b" 400 " in await reader.read()
            writer.close()
            assert server.door.faults["malformed"] == 1


async def test_a_preface_after_a_request() -> None:
    """A connection that began as HTTP/1.1 stays it."""
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"GET ")
        writer.write(PREFACE)
        assert b" 400 " in await reader.read()
        writer.close()
        assert server.door.faults["malformed"] == 1


async def test_curl_speaks_it() -> None:
    """A client that is not ours, over one connection, with a large body and a large answer."""

    async def handler(exchange: Exchange) -> None:
        body = await exchange.read_body(10_000_000)
        exchange.send(200, [], body)

    async with serving(handler, PATIENT) as (server, port):
        command = ["curl", "-s", "--http2-prior-knowledge", "--data-binary", "@-", "-w", "%{http_version}"]
        process = await asyncio.create_subprocess_exec(
            *command, f"http://127.0.0.1:{port}/", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(bytes(3_000_000))
        assert out == bytes(3_000_000) + b"2"
        await gone(server)
        assert server.door.open == server.buffered == 0


async def test_expectations_are_met() -> None:
    """A client that waits for 100 gets it as soon as somebody asks for the body."""
    async with serving(limits=PATIENT) as (_, port), connected(port) as client:
        id = client.request(("expect", "100-continue"), body=None)
        await client.until(lambda: any(type(event).__name__.startswith("Informational") for event in client.events))
        client.engine.send_data(id, b"now", end_stream=True)
        client.flush()
        assert (await client.answer(id)).body == b"POST now"


async def test_a_body_waits_at_its_client_until_it_is_asked_for() -> None:
    """The window stays shut, so nothing piles up here; then the whole body comes."""
    ask = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await ask.wait()
        exchange.send(200, [], b"%d" % len(await exchange.read_body(1_000_000)))

    async with serving(handler, PATIENT) as (server, port), connected(port) as client:
        id = client.request(body=None)
        sent = 0
        while window := min(client.engine.local_flow_control_window(id), 16384):
            client.engine.send_data(id, bytes(window))
            sent += window
        client.flush()
        while server.buffered < sent:
            await asyncio.sleep(0.01)
        assert client.engine.local_flow_control_window(id) == 0
        ask.set()
        while sent < 500_000:
            window = min(client.engine.local_flow_control_window(id), 16384, 500_000 - sent)
            if window:
                client.engine.send_data(id, bytes(window))
                client.flush()
                sent += window
            else:
                await client.read()
        client.engine.end_stream(id)
        client.flush()
        assert (await client.answer(id)).body == b"500000"
        assert server.buffered == 0


async def test_a_slow_client_makes_the_source_wait() -> None:
    """Without a window the answer is not sent, its source is paused, and other streams go on."""

    class Source:
        paused = False

        def pause(self) -> None:
            self.paused = True

        def resume(self) -> None:
            self.paused = False

    source = Source()

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == "/small":
            exchange.send(200, [], b"small")
            return
        exchange.flow = source
        exchange.start(200, [])
        exchange.write(bytes(100_000))
        while source.paused:
            await asyncio.sleep(0.01)
        exchange.end([(b"x-sum", b"7")])

    async with serving(handler, PATIENT) as (_, port), connected(port) as client:
        client.acknowledge = False
        client.engine.increment_flow_control_window(1_000_000)
        id = client.request()
        await client.until(lambda: len(client.answers[id].body) == 65535)
        assert source.paused
        assert (await client.answer(client.request(path="/small"))).body == b"small"
        client.engine.increment_flow_control_window(50_000, id)
        client.flush()
        answer = await client.answer(id)
        assert (len(answer.body), answer.trailers) == (100_000, {"x-sum": "7"})


async def test_ends_that_are_none() -> None:
    """A cut answer, a handler that fails or forgets: the stream is reset, the connection goes on."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == "/fails":
            raise LookupError("a bug")
        if exchange.request.target == "/cut":
            exchange.start(200, [])
            exchange.write(b"half")
            exchange.cut()
        if exchange.request.target == "/whole":
            exchange.send(200, [], b"whole")

    async with serving(handler) as (_, port), connected(port) as client:
        for path in ("/fails", "/forgets", "/cut"):
            answer = await client.answer(client.request(path=path))
            assert (answer.reset, answer.ended) == (2, False)
        assert client.answers[5].body == b"half"
        assert (await client.answer(client.request(path="/whole"))).body == b"whole"


async def test_the_handler_is_cancelled_when_the_client_leaves() -> None:
    """It gives up a stream, or the connection."""
    ended: list[str] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            assert exchange.gone
            exchange.send(200, [], b"nobody")
            ended.append(exchange.request.target)

    async with serving(handler, PATIENT) as (server, port):
        async with connected(port) as client:
            first = client.request(path="/a")
            client.request(path="/b", body=b"x" * 100)
            await asyncio.sleep(0.05)
            client.engine.reset_stream(first)
            client.flush()
            while ended != ["/a"]:
                await asyncio.sleep(0.01)
        while len(ended) < 2 or server.connections:
            await asyncio.sleep(0.01)
        assert server.buffered == server.door.open == 0


async def test_an_answer_before_the_end_of_the_request() -> None:
    """The rest of the body is not wanted: the client is told so, and that all is well."""
    async with serving(limits=PATIENT) as (server, port), connected(port) as client:
        id = client.request(("content-length", "2000"), body=None)
        answer = await client.answer(id)
        assert answer.status == 413
        await client.until(lambda: answer.reset is not None)
        assert answer.reset == 0
        client.raw(0, 0, id, bytes(1000))
        assert (await client.answer(client.request(body=b"y"))).body == b"POST y"
        assert server.buffered == 0


async def test_draining() -> None:
    """New streams are still taken for a moment, those that are open are answered, then the connection ends."""
    release = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await release.wait()
        await echo(exchange)

    async with serving(handler, PATIENT) as (server, port), connected(port) as client:
        first = client.request(body=b"1")
        await asyncio.sleep(0.05)
        server.drain()
        await client.until(lambda: client.goaways)
        assert client.goaways[0].last_stream_id == 2**31 - 1
        client.raw(
            1,
            5,
            3,
            client.engine.encoder.encode(
                [(":method", "GET"), (":scheme", "http"), (":path", "/2"), (":authority", "x")]
            ),
        )
        async with asyncio.timeout(5):
            while not client.goaways[1:]:
                await client.read()
        assert (client.goaways[1].last_stream_id, client.goaways[1].error_code) == (3, 0)
        release.set()
        rest = b""
        while data := await client.reader.read(65536):
            rest += data
        assert b"POST 1" in rest
        assert b"GET " in rest
        assert first == 1
        await gone(server)


async def test_a_client_that_says_goodbye() -> None:
    """Its requests are answered all the same; then the connection ends."""
    release = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await release.wait()
        await echo(exchange)

    async with serving(handler, PATIENT) as (server, port), connected(port) as client:
        id = client.request(body=b"1")
        client.raw(7, 0, 0, bytes(8))
        await asyncio.sleep(0.05)
        release.set()
        assert (await client.answer(id)).body == b"POST 1"
        await client.until(lambda: client.closed)
        await gone(server)


@pytest.mark.parametrize("busy", [False, True])
async def test_the_server_ends(busy: bool) -> None:
    """Idle connections are closed with a word, busy ones are told by their answers."""

    async def handler(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with serving(handler, PATIENT) as (server, port), connected(port) as client:
        if busy:
            client.request()
        await asyncio.sleep(0.05)
        server.shut_idle()
        if not busy:
            assert (await client.goodbye()).error_code == 0
            await gone(server)
        assert bool(server.connections) is busy
