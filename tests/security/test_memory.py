"""What is remembered of heads opens nothing: a server with a memory does what one without would do."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.activator.stack import Stack, until
from tests.security.corpus import BODY, NORMALISED
from tests.security.wire import IMPATIENT, converse, signed, talk, wired
from zerotide.activator.wire.carriage import Phase
from zerotide.activator.wire.memo import Memo, cut
from zerotide.activator.wire.message import Request
from zerotide.api.apikey import digest, parse_key
from zerotide.kube import Change

GOOD = NORMALISED["plain"]
_DIGITS = re.compile(rb"(\r\n[Cc]ontent-[Ll]ength: )[0-9]+(?=\r\n)")
_PIECES = st.sampled_from(
    (
        b"POST /v1 HTTP/1.1\r\n",
        b"GET /v1 HTTP/1.1\r\n",
        b"Host: m\r\n",
        b"X: a\r\n",
        b"X-Content-Length: 5\r\n",
        b"Strength: 5\r\n",
        b"X: Content-Length: 5\r\n",
        b"content-length: 5\r\n",
        b"Content-Length: 13\r\n",
        b"Content-Length: 013\r\n",
        b"CONTENT-LENGTH: 5\r\n",
        b"Content-Length:5\r\n",
        b"Content-Length: 5 \r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5\r",
        b"Content-Length: \r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\n",
        b"12345",
    )
)
_HEADS = st.lists(_PIECES | st.binary(max_size=3), max_size=9).map(b"".join)
_TAIL = st.binary(max_size=20)


def assert_one_key_means_one_head(one: bytes, other: bytes) -> None:
    """Fail where two heads share a key that differ in more than the digits of their Content-Length."""
    first, second = cut(one), cut(other)
    if first is None or second is None or first.key != second.key:
        return
    mine, theirs = one[: first.body_at], other[: second.body_at]
    assert mine == theirs or _DIGITS.sub(rb"\1", mine, count=1) == _DIGITS.sub(rb"\1", theirs, count=1)


@given(_HEADS, _HEADS)
def test_heads_with_one_key_differ_in_digits_only(one: bytes, other: bytes) -> None:
    """Whatever else is different makes another key."""
    assert_one_key_means_one_head(one, other)


@given(_HEADS, st.integers(0, 30), st.integers(0, 10**15 - 1))
def test_other_digits_make_another_head(head: bytes, place: int, number: int) -> None:
    """A number that is no Content-Length is a part of the key, wherever it stands."""
    head += b"\r\n\r\n"
    runs = list(re.finditer(rb"[0-9]+", head))
    if runs:
        run = runs[place % len(runs)]
        assert_one_key_means_one_head(head, head[: run.start()] + b"%d" % number + head[run.end() :])


@given(st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1), st.sampled_from((b"Content-L", b"content-l")))
def test_heads_that_differ_in_digits_have_one_key(one: int, other: int, name: bytes) -> None:
    """The law above is not kept by knowing nothing."""
    head = b"POST / HTTP/1.1\r\n" + name + b"ength: %d\r\nHost: m\r\n\r\n"
    first, second = cut(head % one), cut(head % other)
    assert first is not None
    assert second is not None
    assert first.key == second.key
    assert (first.length, second.length) == (one, other)


@given(st.integers(0, 40), _TAIL, st.lists(st.sampled_from((b"X: a\r\n", b"X-Content-Length: 3\r\n")), max_size=3))
def test_the_body_is_where_another_parser_finds_it(length: int, body: bytes, more: list[bytes]) -> None:
    """Where a whole request would be taken from memory, h11 reads the same body and nothing after it."""
    data = b"POST / HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n%b\r\n%b" % (length, b"".join(more), body)
    piece = cut(data)
    if piece is None or len(data) - piece.body_at != piece.length:
        assert piece is None or length != len(body)
        return
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data)
    assert isinstance(parser.next_event(), h11.Request)
    read = b""
    while isinstance(event := parser.next_event(), h11.Data):
        read += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert read == data[piece.body_at :] == body
    assert parser.trailing_data == (b"", False)


class Counting(Memo[Request]):
    """Counts how often a head was looked for."""

    __slots__ = ("cuts",)

    def __init__(self) -> None:
        super().__init__()
        self.cuts = 0

    def get(self, key: bytes) -> Request | None:
        """Return what is known."""
        self.cuts += 1
        return super().get(key)


class Forgetful(Memo[Request]):
    """Knows no head."""

    def get(self, key: bytes) -> Request | None:
        """Return nothing."""
        return None


def with_length(value: bytes) -> bytes:
    """Return the good request with another Content-Length."""
    return GOOD.replace(b"Content-Length: 13", b"Content-Length:" + value)


def mutations(seed: int) -> list[bytes]:
    """Return requests that differ from the good one in a little, its place for a credential left whole."""
    chance = random.Random(seed)
    lengths = (b" 12", b" 14", b" 5", b" 0", b" 013", b" 0000000000000013", b" +13", b" -13", b"  13", b" 13 ", b"13")
    odd = (b" 13\t", b"\t13", b" 1 3", b" 13,13", b" 0x0d", b"", b" ", b" 13\r\nContent-Length: 13", b" 13\x00")
    more = (b" 13\r\nContent-Length: 5", b" 5\r\nContent-Length: 13", b" 13\r\nTransfer-Encoding: chunked", b" 13\n")
    found = [with_length(value) for value in (*lengths, *odd, *more)]
    found += [
        GOOD.replace(b"POST", b"GET"),
        GOOD.replace(b"POST", b"PUT"),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GOOD.replace(b"HTTP/1.1", b"RTSP/1.1"),
        GOOD.replace(b"Content-Length", b"content-length"),
        GOOD.replace(b"Content-Length", b"CONTENT-LENGTH"),
        GOOD.replace(b"\r\n\r\n", b"\r\n\r\n\r\n"),
        GOOD.replace(b"\r\n\r\n", b"\n\n"),
        GOOD[:-1],
        GOOD + b"x",
        GOOD + GOOD,
        b"\r\n" + GOOD,
        GOOD.replace(b"{auth}", b""),
    ]
    head = GOOD.index(b"\r\n\r\n") + 4
    places = [at for at in range(head) if not GOOD.index(b"{auth}") <= at < GOOD.index(b"{auth}") + 6]
    for _ in range(60):
        at = chance.choice(places)
        byte = bytes((chance.randrange(256),))
        found += [GOOD[:at] + byte + GOOD[at + 1 :], GOOD[:at] + byte + GOOD[at:], GOOD[:at] + GOOD[at + 1 :]]
    return found


_ID = re.compile(rb"(x-request-id: )[0-9a-f]{32}")


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_memory_changes_nothing(seed: int) -> None:
    """The same bytes to a server with a memory and to one without: the same status, and the same to the replica."""
    remembered = 0
    async with wired(IMPATIENT) as (warm, warm_tap), wired(IMPATIENT) as (cold, cold_tap):
        cold.service.server.heads = Forgetful()
        for sent in mutations(seed):
            seen = []
            for stack, tap in ((warm, warm_tap), (cold, cold_tap)):
                answers = await converse(stack, GOOD, sent)
                remembered += known(stack, sent)
                posts = b"".join(line.raw for line in tap.lines if b"POST " in line.raw)
                seen.append(([answer[:13] for answer in answers], _ID.sub(rb"\1", posts)))
                assert seen[-1][0][0] == b"HTTP/1.1 200 ", sent
                assert tap.posts, sent  # each byte of it of the one form
                tap.forget()
            assert seen[0] == seen[1], sent
    assert remembered > 10


APART: dict[str, tuple[bytes, bytes]] = {
    "chunks": (NORMALISED["chunks"].partition(b"\r\n\r\n")[0], NORMALISED["chunks"].partition(b"\r\n\r\n")[2]),
    "a length in capitals": (with_length(b" 13").replace(b"Content-L", b"CONTENT-L")[:-17], BODY),
    "a length without a space": (with_length(b"13")[:-17], BODY),
    "another number of that size": (with_length(b" 13\r\nX-Strength: 0")[:-17], BODY),
    "another number of that size first": (GOOD.replace(b"Content-L", b"Strength: 0\r\nContent-L")[:-17], BODY),
}


@pytest.mark.parametrize("case", APART)
async def test_heads_that_come_apart_from_their_bodies(case: str) -> None:
    """A head that is whole without a body, byte by byte, is not remembered as that of a request without one."""
    head, body = APART[case]
    async with wired() as (stack, tap):
        memory = stack.service.server.heads = Counting()
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
            memory.cuts = 0
            writer.write(signed(stack, head + b"\r\n\r\n"))
            await until(lambda: memory.cuts or in_body(stack))
            writer.write(body)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        assert [post.body for post in tap.posts] == [BODY] * 3


async def test_a_number_that_is_no_length_is_none() -> None:
    """Two heads that differ in it are two heads: the second's body ends where its own length says."""
    first = GOOD.replace(b"Content-L", b"Strength: 13\r\nContent-L")
    longer = first.replace(b"Strength: 13", b"Strength: 26") + BODY
    async with wired() as (stack, tap):
        answers = await converse(stack, first, first, longer)
        assert [answer[9:12] for answer in answers] == [b"200"] * 3
        assert [post.body for post in tap.posts] == [BODY] * 3


def change_key(stack: Stack, **spec: Any) -> None:
    """Change a key, its secret aside."""
    secret = parse_key(stack.keys["k"]).secret
    obj = {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "APIKey",
        "metadata": {"namespace": "demo", "name": "k", "uid": "key-k"},
        "spec": {"digest": digest(secret), "consumer": "team-a", **spec},
    }
    stack.registry.key_changed(Change("set", obj))


def replace_key(stack: Stack) -> None:
    """Give a key another secret; the client goes on with the old one."""
    text = stack.keys["k"]
    stack.key()
    stack.keys["k"] = text


CHANGES: dict[str, tuple[Callable[[Stack], object], bytes]] = {
    "a key is revoked": (lambda stack: stack.revoke("k"), b"401 invalid_api_key"),
    "a key is suspended": (lambda stack: change_key(stack, suspend=True), b"401 invalid_api_key"),
    "a key is changed to have expired": (
        lambda stack: change_key(stack, expirationTime="2020-01-01T00:00:00Z"),
        b"401 invalid_api_key",
    ),
    "a key has a new secret": (replace_key, b"401 invalid_api_key"),
    "a key opens other endpoints": (lambda stack: change_key(stack, endpoints=["x"]), b"403 "),
    "an endpoint is suspended": (lambda stack: stack.endpoint(suspend=True), b"500 suspended"),
    "an endpoint is deleted": (lambda stack: stack.delete_endpoint(), b"404 "),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changes_between_two_same_requests(change: str) -> None:
    """A head that is remembered says who calls and where only as long as that is true, on an open connection too."""
    act, expected = CHANGES[change]
    async with wired() as (stack, tap):
        assert [answer[9:12] for answer in await converse(stack, GOOD, GOOD, GOOD)] == [b"200"] * 3
        assert known(stack)
        act(stack)
        tap.forget()
        answer = await talk(stack, GOOD)
        code = next(line[18:] for line in answer.split(b"\r\n") if line.startswith(b"x-zerotide-error: "))
        assert (answer[9:13] + code).startswith(expected), answer
        assert tap.posts == []


async def test_a_key_that_expires_between_two_same_requests() -> None:
    """Time alone ends it: nothing of the cluster changes."""
    async with wired() as (stack, tap):
        end = math.ceil(time.time() + 0.3)
        change_key(stack, expirationTime=datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        assert [answer[9:12] for answer in await converse(stack, GOOD, GOOD)] == [b"200"] * 2
        version = stack.registry.version
        await asyncio.sleep(end - time.time() + 0.01)
        tap.forget()
        assert (await talk(stack, GOOD))[9:12] == b"401"
        assert tap.posts == []
        assert stack.registry.version == version


def in_body(stack: Stack) -> bool:
    """Tell whether a client's body is waited for."""
    return any(getattr(one, "_phase", None) is Phase.BODY for one in stack.service.server.connections)


def known(stack: Stack, sent: bytes = GOOD) -> bool:
    """Tell whether a request's head is remembered."""
    piece = cut(signed(stack, sent))
    return piece is not None and stack.service.server.heads.get(piece.key) is not None
