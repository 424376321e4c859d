"""Limits that nobody gets around: each has its own error, is counted, and leaves room for honest clients."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from dataclasses import replace

import pytest

from tests.activator.stack import until
from tests.activator.wire.test_server import QUICK, Raw, connected, echo, serving
from zerotide.activator.failures import TooManyConnections, TooManyFromAddress
from zerotide.activator.wire import Door, Exchange
from zerotide.activator.wire.listening import open_socket

TCP_REPAIR = 19
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
PATIENT = replace(QUICK, idle_time=30.0)


def test_the_door_counts_what_it_refuses() -> None:
    """In all and by address; whoever leaves makes room."""
    door = Door(3, 2)
    door.enter("a")
    door.enter("a")
    with pytest.raises(TooManyFromAddress, match="a has 2 connections"):
        door.enter("a")
    door.enter("b")
    with pytest.raises(TooManyConnections, match="3 connections"):
        door.enter("c")
    assert door.rejected == {"connections_per_address": 1, "connections": 1}
    door.leave("a")
    door.enter("c")
    for address in ("a", "b", "c"):
        door.leave(address)
    assert (door.open, door.accepted, door._by_address) == (0, 4, {})


async def test_one_address_cannot_take_all_connections() -> None:
    """The one beyond its bound is closed; another address is served."""
    async with serving(limits=replace(PATIENT, connections_per_address=2)) as (server, port), AsyncExitStack() as open_:
        for _ in range(2):
            client = await open_.enter_async_context(connected(port))
            client.send(GET)
            assert (await client.answer())[0] == 200
        async with connected(port) as third:
            assert await third.rest() == b""
        assert server.door.rejected == {"connections_per_address": 1}
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        writer.write(GET)
        assert (await Raw(reader, writer).answer())[0] == 200
        writer.close()
        await open_.aclose()
        await until(lambda: not server.door.open)


@pytest.mark.parametrize(
    ("sent", "reason", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: ", "head_time", b" 400 "),
        (b"", "idle_time", b""),
        (b"GET / HTTP/1.1\r\nX: " + bytes(1) * 10, "malformed", b" 400 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200, "head_bytes", b" 413 "),
        (POST + b"Content-Length: 100\r\n\r\nabc", "body_progress", b" 400 "),
        (POST + b"Content-Length: 2000\r\n\r\n", "body_bytes", b" 413 "),
        (POST + b"Content-Length: 900\r\n\r\n" + b"x" * 900, "body_memory", b" 429 "),
    ],
    ids=["head_time", "idle_time", "malformed", "head_bytes", "body_progress", "body_bytes", "body_memory"],
)
async def test_every_limit_is_counted(sent: bytes, reason: str, status: bytes) -> None:
    """Once, by its own word."""
    async with serving(limits=replace(QUICK, buffered_bytes=800)) as (server, port), connected(port) as client:
        client.send(sent)
        answer = await client.rest()
        assert status in answer[:20]
        assert server.door.faults[reason] == 1
        assert server.buffered == 0


async def test_an_answer_that_nobody_reads_is_counted() -> None:
    """Its client is dropped after a while."""

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.write(bytes(50_000_000))
        await asyncio.Event().wait()

    async with serving(handler) as (server, port), connected(port) as client:
        client.send(GET)
        await until(lambda: server.door.accepted and not server.connections)
        assert server.door.faults == {"write_time": 1}


async def test_a_client_that_reads_no_answers_is_not_read_either() -> None:
    """However many requests it sends, one after the other: they wait for it to read, and then all are served."""
    sent, answered, size = 0, 0, 32 * 1024

    async def large(exchange: Exchange) -> None:
        nonlocal answered
        answered += 1
        exchange.send(200, [], bytes(size))

    def all_answered() -> bool:
        return answered == sent

    def unread() -> int:
        return sum(each._transport.get_write_buffer_size() for each in server.connections)  # type: ignore[attr-defined]

    limits = replace(PATIENT, write_time=30.0)
    async with serving(large, limits) as (server, port), connected(port) as client:
        while sent < 2000 and unread() <= limits.write_buffer:
            client.send(GET)
            sent += 1
            await until(all_answered)
        assert sent < 2000, "what a client may leave unread is more than the kernel's buffers hold"
        client.send(GET)
        assert [each._reading for each in server.connections] == [False]  # type: ignore[attr-defined]
        assert unread() <= limits.write_buffer + size
        for _ in range(sent + 1):
            assert len((await client.answer())[2]) == size
        client.send(GET)
        assert (await client.answer())[0] == 200
        assert answered == sent + 2


async def test_a_client_that_reads_no_answers_has_no_longer_than_within_one() -> None:
    """Its deadline is that of an answer that is not read, however it came to be."""

    async def large(exchange: Exchange) -> None:
        exchange.send(200, [], bytes(16 * 1024 * 1024))

    async with serving(large, PATIENT) as (server, port), connected(port) as client:
        client.send(GET)
        await until(lambda: server.door.accepted and not server.connections)
        assert server.door.faults == {"write_time": 1}


async def test_a_request_that_lives_too_long() -> None:
    """Whatever it does: its handler is cancelled and told why, once; the connection is not the client's fault."""
    told: list[str] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert exchange.overruled is not None
            told.append(exchange.overruled.message)
            exchange.send(504, [], b"late")

    async with serving(handler, replace(QUICK, request_age=0.2)) as (server, port), connected(port) as client:
        client.send(GET)
        assert (await client.answer())[::2] == (504, b"late")
        assert told == ["the request lived longer than 0.2 s"]
        assert server.door.faults == {"request_age": 1}


async def test_slow_loris() -> None:
    """A crowd that sends heads byte by byte is gone after the head's time, and others are served all the while."""
    async with serving(limits=replace(QUICK, head_time=0.5)) as (server, port), AsyncExitStack() as open_:
        crowd = [await open_.enter_async_context(connected(port)) for _ in range(200)]
        for client in crowd:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        loop = asyncio.get_running_loop()
        began = loop.time()
        served = 0
        while loop.time() - began < 0.6:
            for client in crowd:
                if not client.writer.is_closing():
                    client.send(b"X")
            async with connected(port) as honest:
                honest.send(GET)
                assert (await honest.answer())[0] == 200
                served += 1
            await asyncio.sleep(0.02)
        await until(lambda: server.door.open <= 1, timeout=2.0)
        assert served >= 2
        assert server.door.faults["head_time"] == 200


async def test_half_open_peers() -> None:
    """A peer that vanished without a word is noticed while its request is held, and its handler is cancelled."""
    if not may_vanish():
        with_rights_of_its_own("test_half_open_peers")
        return
    ended = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(handler, PATIENT, silence=1.0) as (server, port):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(GET)
        await until(lambda: server.connections)
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        client.close()
        async with asyncio.timeout(30):
            await ended.wait()
        assert not server.connections


def may_vanish() -> bool:
    """Tell whether a socket may be closed here without a word to its peer."""
    with closing(socket.socket()) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
        except PermissionError:
            return False
    return True


def with_rights_of_its_own(test: str) -> None:
    """Run a test in a network of its own, whose root anybody may be where the kernel lets them."""
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-m", "pytest", "-q"]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", *inside, "-p", "no:cacheprovider", f"{__file__}::{test}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.stderr.startswith("unshare:"):
        pytest.skip(f"neither root nor a network namespace of one's own: {done.stderr.strip()}")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


async def test_a_taken_port_is_told() -> None:
    """Ports are not shared unless asked for."""
    with closing(open_socket("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            open_socket("127.0.0.1", port)
    with closing(open_socket("::1", 0, shared=True)) as one:
        open_socket("::1", one.getsockname()[1], shared=True).close()


async def test_echo_is_untouched_by_limits_that_are_not_met() -> None:
    """A request in time and of size goes through, and nothing is counted."""
    async with serving(echo) as (server, port), connected(port) as client:
        client.send(POST + b"Content-Length: 3\r\n\r\nabc")
        assert (await client.answer())[2] == b"POST abc"
        assert not server.door.faults and not server.door.rejected
