"""Every hostile request is refused or normalised; none is forwarded as it is."""

from __future__ import annotations

import asyncio

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack
from tests.security.corpus import BODY, GROUPS, NORMALISED
from tests.security.wire import signed, talk, wired
from tests.security.wiretap import Wiretap

ALLOWED_NAMES = {
    b"host",
    b"content-length",
    b"accept-encoding",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-request-id",
}
GOOD = NORMALISED["plain"]


def fault_of(answer: bytes, tap: Wiretap, case: str, good: int = 0) -> str:
    """Return what is wrong with how a hostile request behind some good ones ended, nothing where it was refused."""
    status = int(answer.split(b" ", 2)[1]) if answer else 0
    if len(tap.posts) != good:
        return f"the replica got {tap.posts}"
    if status not in (0, 400, 401, 404, 413) or b"the body made no progress" in answer:
        return f"the answer is {answer!r}"
    if status == 400 and b"x-zerotide-error: " not in answer:
        return f"no code in {answer!r}"
    if answer.count(b"HTTP/1.1 ") > 1:
        return f"several answers: {answer!r}"
    return ""


@pytest.mark.parametrize("group", GROUPS)
async def test_refused(group: str) -> None:
    """No replica sees it, the client gets an error of the table, and the connection serves nothing after it."""
    wrong: dict[str, str] = {}
    async with wired() as (stack, tap):
        for case, data in GROUPS[group].items():
            answer = await talk(stack, data)
            if fault := fault_of(answer, tap, case):
                wrong[case] = fault
            tap.forget()
    assert wrong == {}


@pytest.mark.parametrize("group", GROUPS)
async def test_refused_where_a_good_head_is_remembered(group: str) -> None:
    """The same behind a good request on the same connection, whose head is known by then."""
    wrong: dict[str, str] = {}
    async with wired() as (stack, tap):
        for case, data in GROUPS[group].items():
            answer = await talk(stack, GOOD, data)
            if fault := fault_of(answer, tap, case, good=1):
                wrong[case] = fault
            tap.forget()
    assert wrong == {}


async def test_normalised() -> None:
    """The replica gets one request with one length, our headers, and none that was meant for us or forged."""
    async with wired() as (stack, tap):
        for case, data in NORMALISED.items():
            answer = await talk(stack, data)
            assert answer.startswith(b"HTTP/1.1 200 "), case
            (seen,) = tap.posts
            assert (seen.method, seen.target, seen.body) == (b"POST", b"/v1/completions", BODY), case
            names = [name for name, _ in seen.headers]
            assert len(names) == len(set(names)), case
            assert set(names) - {b"x-a"} == ALLOWED_NAMES, case
            assert seen.get(b"content-length") == str(len(BODY)).encode(), case
            assert seen.get(b"x-forwarded-for") == b"127.0.0.1", case
            assert seen.get(b"x-a") in (b"", b"y"), case
            tap.forget()


async def test_pipelined_request_lines_are_looked_at_one_by_one() -> None:
    """A bad line behind a good request of the same connection is refused, wherever the bytes are cut."""
    bad = GOOD.replace(b"HTTP/1.1", b"RTSP/1.1")
    async with wired() as (stack, tap):
        for first in (GOOD, NORMALISED["chunks"]):
            whole = signed(stack, first + bad)
            for size in (1, 7, 100, len(whole)):
                reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
                for at in range(0, len(whole), size):
                    writer.write(whole[at : at + size])
                    await asyncio.sleep(0)
                answers = await reader.read()
                writer.close()
                await writer.wait_closed()
                assert answers.count(b"HTTP/1.1 200 ") == 1, (size, answers)
                assert len(tap.posts) == 1, (size, tap.posts)
                tap.forget()


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
