"""The forwarder passes on bytes, ends and resets as they come."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from e2e.cluster import forward
from e2e.reach import Reach

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Loopback:
    """A target on 127.0.0.1, or none."""

    def __init__(self, port: int | None) -> None:
        self.port = port

    async def connect(self) -> Ends | None:
        """Open a connection, or return None."""
        return await asyncio.open_connection("127.0.0.1", self.port) if self.port else None


@contextlib.asynccontextmanager
async def forwarded(target: forward.Target) -> AsyncIterator[Ends]:
    """Connect through a forwarder to a target."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = await forward.listen(listener, target)
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        own = asyncio.current_task()
        async with asyncio.timeout(5):  # nothing of a connection stays behind
            while others := [task for task in asyncio.all_tasks() if task is not own]:
                await asyncio.wait(others)


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[tuple[Loopback, asyncio.Queue[Ends]]]:
    """Serve a port whose connections the test handles."""
    accepted: asyncio.Queue[Ends] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait((reader, writer))
        await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield Loopback(server.sockets[0].getsockname()[1]), accepted
    finally:
        server.close()


async def test_bytes_go_both_ways_and_an_end_leaves_the_other_direction_open() -> None:
    """A client that has said everything still gets its answer."""
    async with upstream() as (target, accepted), forwarded(target) as (reader, writer):
        writer.write(b"x" * 300_000)
        writer.write_eof()
        inner_reader, inner_writer = await accepted.get()
        assert await inner_reader.read() == b"x" * 300_000
        inner_writer.write(b"answer")
        inner_writer.close()
        assert await asyncio.wait_for(reader.read(), 5) == b"answer"


@pytest.mark.parametrize("breaking", ["outside", "inside"])
async def test_a_reset_is_passed_on(breaking: str) -> None:
    """Whoever breaks the connection, the other side sees it break."""
    async with upstream() as (target, accepted), forwarded(target) as outer:
        outer[1].write(b"hello")
        inner = await accepted.get()
        await inner[0].readexactly(5)
        first, second = (outer, inner) if breaking == "outside" else (inner, outer)
        linger = struct.pack("ii", 1, 0)
        first[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        first[1].transport.abort()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(second[0].read(), 5)
        second[1].close()


async def test_without_a_gateway_the_caller_is_told() -> None:
    """An HTTP answer that says what is missing."""
    async with forwarded(Loopback(None)) as (reader, _):
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 503 ") and b"not installed" in answer


async def test_while_no_activator_is_ready_a_connection_by_port_forwards_breaks() -> None:
    """As one to a Service without endpoints does."""
    async with forwarded(Reach("kubectl", "nowhere", "zerotide-system")) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
