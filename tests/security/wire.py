"""An activator before a replica that keeps its bytes, shared by many hostile requests one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.activator.stack import Stack, until
from tests.security.wiretap import Wiretap
from zerotide.activator.wire import Limits

IMPATIENT = Limits(head_time=0.2, body_time=0.2, linger_time=0.2, sweep=0.05)
"""So that whoever waits for a rest that never comes is refused soon."""


@asynccontextmanager
async def wired(limits: Limits = IMPATIENT) -> AsyncIterator[tuple[Stack, Wiretap]]:
    """Have an endpoint that is awake, with one replica that keeps every byte it gets."""
    async with Wiretap() as tap, Stack(limits=limits) as stack:
        endpoint = stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"})
        stack.key()
        stack.pod(tap.port)
        await until(lambda: not endpoint.gate.cold)
        yield stack, tap


def signed(stack: Stack, data: bytes) -> bytes:
    """Return a request with a valid credential where it has a place for one."""
    return data.replace(b"{auth}", f"Authorization: Bearer {stack.keys['k']}\r\n".encode())


async def talk(stack: Stack, *pieces: bytes) -> bytes:
    """Send requests on one connection as `converse` does; return what comes after the last."""
    return (await converse(stack, *pieces))[-1]


async def converse(stack: Stack, *pieces: bytes) -> list[bytes]:
    """Send requests on one connection, each after the answer to the one before; return the answers.

    An answer ends where its length says, else with the connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    answers = []
    try:
        async with asyncio.timeout(5):
            for piece in pieces:
                writer.write(signed(stack, piece))
                answers.append(await _answer(reader))
    except ConnectionError:
        answers.append(b"")
    finally:
        writer.transport.abort()
        # Until the loop has closed it: else the next test would be told of a transport that nobody closed.
        with suppress(ConnectionError):
            await writer.wait_closed()
    return answers


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer with a length, or all that comes until the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    if b"connection: close" in head:
        return head + await reader.read()
    lengths = [line[16:] for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
    return head + (await reader.readexactly(int(lengths[0])) if lengths else b"")
