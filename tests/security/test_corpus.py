"""Every hostile request is refused or normalised; none is forwarded as it is."""

from __future__ import annotations

import asyncio

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack
from tests.security.corpus import BODY, NORMALISED, REFUSED

ALLOWED_NAMES = {
    "host",
    "content-length",
    "accept-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
}


async def exchange(stack: Stack, data: bytes) -> bytes:
    """Send bytes, and a harmless request after them; return all that comes back until the connection ends."""
    auth = f"Authorization: Bearer {stack.keys['k']}\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    writer.write(data.replace(b"{auth}", auth))
    answer = b""
    try:
        async with asyncio.timeout(5):
            answer += await reader.readuntil(b"\r\n\r\n")
            if b"connection: close" in answer:
                answer += await reader.read()
    except (asyncio.IncompleteReadError, ConnectionResetError) as end:
        answer += getattr(end, "partial", b"")
    writer.transport.abort()
    return answer


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(stack: Stack, replica: Replica, case: str) -> None:
    """No replica sees it, the client gets an error of the table, and the connection serves nothing after it."""
    await stack.awake(replica)
    answer = await exchange(stack, REFUSED[case])
    status = int(answer.split(b" ", 2)[1]) if answer else 0
    assert status in (0, 400, 401, 404, 413), answer
    assert replica.posts == []
    if status == 400:
        assert b"x-zerotide-error: " in answer
    assert answer.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize("case", NORMALISED)
async def test_normalised(stack: Stack, replica: Replica, case: str) -> None:
    """The replica gets one request with one length, our headers, and none that was meant for us or forged."""
    await stack.awake(replica)
    answer = await exchange(stack, NORMALISED[case])
    assert answer.startswith(b"HTTP/1.1 200 ")
    (seen,) = replica.posts
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/completions", BODY)
    names = [name for name, _ in seen.headers]
    assert len(names) == len(set(names))
    assert set(names) - {"x-a"} == ALLOWED_NAMES
    assert seen.get("content-length") == str(len(BODY))
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("x-a") in ("", "y")


async def test_a_smuggled_request_is_its_own(stack: Stack, replica: Replica) -> None:
    """What follows a request on its connection is a request of the same client, with rights of its own."""
    await stack.awake(replica)
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    first = NORMALISED["plain"].replace(b"{auth}", f"Authorization: Bearer {stack.keys['k']}\r\n".encode())
    writer.write(first + NORMALISED["plain"].replace(b"{auth}", b""))
    answers = b""
    while answers.count(b"HTTP/1.1 ") < 2:
        answers += await reader.read(65536)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 401 " in answers
    assert len(replica.posts) == 1
    writer.close()


async def test_answers_carry_no_injected_lines(stack: Stack, replica: Replica) -> None:
    """What a client chooses and what comes back in headers cannot make a line of its own."""
    await stack.awake(replica)
    for value in ("a\tb", "a b", "x" * 129, "\xe9"):
        answer = await stack.post(x_request_id=value)
        assert answer.headers["x-request-id"] != value
        assert len(answer.headers["x-request-id"]) == 32
    refused = await stack.post(body={"model": "x\r\nSet-Cookie: a=b\r\n\x1b[31m"})
    assert "set-cookie" not in refused.headers
    assert b"\x1b" not in refused.body
    assert b"\r\n" not in refused.body
