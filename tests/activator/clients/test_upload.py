"""A client that writes its whole body before it reads."""

from __future__ import annotations

import asyncio

from tests.activator.stack import Stack

MIB = 1 << 20


async def test_the_refusal_of_a_large_body_is_no_reset(stack: Stack) -> None:
    """Its body is read to the end, so that it finds the answer and does not take the loss for a reason to retry."""
    stack.endpoint()
    key = stack.key()
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    head = f"POST /endpoints/demo/m/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    writer.write(head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (24 * MIB))
    for _ in range(24):
        writer.write(b"x" * MIB)
        await writer.drain()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"X-Zerotide-Error: request_too_large".lower() in answer.lower()
    writer.close()
    await writer.wait_closed()
