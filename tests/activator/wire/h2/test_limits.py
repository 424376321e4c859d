"""What a client of HTTP/2 may not do: each case is refused with a word, and costs little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.activator.wire.h2.client import Client, connected
from tests.activator.wire.test_server import QUICK, serving
from zerotide.activator.failures import HeadTooLarge, MalformedRequest
from zerotide.activator.wire import Exchange
from zerotide.activator.wire.h2.floods import Allowance
from zerotide.activator.wire.h2.frames import CONTINUATION, GOAWAY, Frames
from zerotide.activator.wire.h2.strict import read_request

PATIENT = replace(QUICK, body_time=5.0, idle_time=5.0, head_time=5.0)
CALM = 11
HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"x")]


@pytest.mark.parametrize(
    "more",
    [
        (("connection", "close"),),
        (("transfer-encoding", "chunked"),),
        (("keep-alive", "1"),),
        (("upgrade", "websocket"),),
        (("te", "gzip"),),
        (("X-Upper", "1"),),
        (("x y", "1"),),
        (("x", "a\r\nb: c"),),
        (("x", "a\0"),),
        (("x", " a"),),
        (("host", "other"),),
        ((":path", ""),),
        (("a", "b"), (":late", "1")),
        ((":unknown", "1"),),
        (("content-length", "1"), ("content-length", "2")),
        (("content-length", "5"),),
        (("content-length", "x"),),
    ],
)
async def test_requests_that_are_none(more: tuple[tuple[str, str], ...]) -> None:
    """Heads that RFC 9113 forbids end the connection with a word; nothing of them reaches a handler."""
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request.target)
        await exchange.read_body(100)

    async with serving(handler, PATIENT) as (server, port), connected(port) as client:
        client.request(*more, body=b"abc" if any(name == "content-length" for name, _ in more) else b"")
        assert (await client.goodbye()).error_code == 1
        assert server.door.faults["malformed"] >= 1
        while server.connections:
            await asyncio.sleep(0.01)
    assert not seen or more == (("content-length", "5"),)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (((":method", "CONNECT"),), "CONNECT"),
        (((":path", "http://x/"),), "path"),
        (((":path", "*"),), "path"),
        (((":path", "/a b"),), "percent-encoded"),
        (((":authority", "a@b"),), "Host"),
        (((":scheme", "ftp"),), "scheme"),
        ((("x(y)", "1"),), "characters"),
        ((("x", "a\x01"),), "characters"),
        ((("authorization", "a"), ("authorization", "b")), "twice"),
        ((("content-length", "3"),), "there is none"),
    ],
)
def test_what_a_replica_could_misread(more: tuple[tuple[str, str], ...], told: str) -> None:
    """Heads that HTTP/1.1 could not carry, or not in one meaning, are refused in words."""
    names = [name.encode() for name, _ in more]
    head = [each for each in HEAD if each[0] not in names] + [(name.encode(), value.encode()) for name, value in more]
    with pytest.raises(MalformedRequest, match=told):
        read_request(head, ended=True)


def test_too_many_headers() -> None:
    """They are bounded in number as well as in bytes."""
    with pytest.raises(HeadTooLarge):
        read_request([*HEAD, *((b"x", b"1") for _ in range(200))], ended=True)


async def test_a_request_that_is_refused_is_answered() -> None:
    """What the protocol allows and we do not is told to its stream; the connection goes on."""
    async with serving(limits=PATIENT) as (server, port), connected(port) as client:
        refused = await client.answer(client.request((":path", "/a b"), body=b"x"))
        assert refused.status == 400
        assert b"percent-encoded" in refused.body
        assert (await client.answer(client.request(body=b"x"))).status == 200
        assert server.door.faults["malformed"] == 1


def pings(client: Client) -> None:
    """Ask for answers without end."""
    for _ in range(1200):
        client.raw(6, 0, 0, bytes(8))


def settings(client: Client) -> None:
    """Change one's mind without end."""
    for _ in range(1200):
        client.raw(4, 0, 0, b"")


def empty_data(client: Client) -> None:
    """Send a body without a byte."""
    id = client.request(body=None)
    for _ in range(1200):
        client.raw(0, 0, id, b"")


def windows(client: Client) -> None:
    """Open a window by a byte at a time."""
    for _ in range(1200):
        client.raw(8, 0, 0, (1).to_bytes(4, "big"))


def priorities(client: Client) -> None:
    """Rearrange streams that nobody sees."""
    for _ in range(1200):
        client.raw(2, 0, 9, bytes(4) + b"\1")


def unknown(client: Client) -> None:
    """Send frames of a kind that nobody knows."""
    for _ in range(1200):
        client.raw(99, 0, 0, b"")


def resets(client: Client) -> None:
    """Ask and give up at once."""
    for _ in range(250):
        client.engine.reset_stream(client.request())
    client.flush()


def continuations(client: Client) -> None:
    """Begin a head and never end it."""
    client.raw(1, 0, 1, b"")
    for _ in range(8):
        client.raw(9, 0, 1, b"\x00\x01x" * 3000)


def empty_continuations(client: Client) -> None:
    """Begin a head and bring nothing more."""
    client.raw(1, 0, 1, b"")
    for _ in range(100):
        client.raw(9, 0, 1, b"")


def bomb(client: Client) -> None:
    """Send a head that is small on the wire and large in memory."""
    block = client.engine.encoder.encode([(":method", "GET"), ("x", "y" * 3000)]) + b"\xbe" * 1000
    client.raw(1, 5, 1, block)


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        (pings, CALM),
        (settings, CALM),
        (empty_data, CALM),
        (windows, CALM),
        (priorities, CALM),
        (unknown, CALM),
        (resets, CALM),
        (continuations, CALM),
        (empty_continuations, 1),
        (bomb, CALM),
    ],
)
async def test_floods(flood: Callable[[Client], None], code: int) -> None:
    """The connection ends and says why."""
    async with serving(limits=PATIENT) as (server, port), connected(port) as client:
        flood(client)
        assert (await client.goodbye()).error_code == code
        while server.connections:
            await asyncio.sleep(0.01)
        assert server.buffered == server.door.open == 0


async def test_more_streams_than_allowed() -> None:
    """Before a client knows the bound its streams are refused one by one; later it breaks the protocol."""

    async def handler(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    limits = replace(PATIENT, streams=3)
    async with serving(handler, limits) as (_, port), connected(port) as client:
        ids = [client.request() for _ in range(8)]
        await client.until(lambda: client.answers[ids[7]].reset is not None)
        assert [client.answers[id].reset for id in ids] == [None] * 6 + [7, 7]
    async with serving(handler, limits) as (_, port), connected(port) as client:
        await client.until(lambda: len(client.events) > 3)
        await asyncio.sleep(0.05)
        block = client.engine.encoder.encode(
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
        )
        for number in range(4):
            client.raw(1, 5, 2 * number + 1, block)
        assert (await client.goodbye()).error_code == 1


async def test_a_large_frame() -> None:
    """Frames are as large as we said, at most."""
    async with serving(limits=PATIENT) as (_, port), connected(port) as client:
        client.raw(0, 0, 1, bytes(16385))
        assert (await client.goodbye()).error_code == 6


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b"", "idle_time"), (b"\0\0\x09\1\4\0\0\0\1abc", "head_time"), (b"\0\0\3\1\0\0\0\0\1abc", "head_time")],
)
async def test_deadlines(payload: bytes, reason: str) -> None:
    """Idle connections, frames that never end, heads that never end."""
    limits = replace(QUICK, idle_time=5.0 if payload else 0.2)
    async with serving(limits=limits) as (server, port), connected(port) as client:
        client.writer.write(payload)
        while await client.reader.read(65536):
            pass
        assert server.door.faults[reason] == 1
        while server.connections:
            await asyncio.sleep(0.01)


async def test_bodies_that_stall_and_answers_that_nobody_reads() -> None:
    """One stream's stall ends that stream and no other."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == "/big":
            exchange.send(200, [], bytes(100_000))
        else:
            await exchange.read_body(100)

    async with serving(handler, replace(QUICK, idle_time=5.0)) as (server, port), connected(port) as client:
        client.acknowledge = False
        stalled, unread = client.request(body=None), client.request(path="/big")
        assert (await client.answer(unread)).reset == 8
        assert (await client.answer(stalled)).reset == 2
        assert server.door.faults["body_progress"] == server.door.faults["write_time"] == 1


async def test_requests_live_so_long() -> None:
    """Whatever they do meanwhile."""

    async def handler(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert exchange.overruled is not None
            exchange.send(504, [])
            raise

    async with serving(handler, replace(PATIENT, request_age=0.1)) as (server, port), connected(port) as client:
        assert (await client.answer(client.request())).status == 504
        assert server.door.faults["request_age"] == 1


FRAME = st.tuples(st.integers(0, 12), st.sampled_from([0, 1, 4, 5]), st.binary(max_size=30))


@example([(0, 0, b"")] * 4 + [(0, 1, b"")], [1, 11, 20, 9])
@given(st.lists(FRAME, max_size=8), st.lists(st.integers(1, 20), max_size=40))
def test_frames_do_not_depend_on_how_they_arrive(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    """However bytes are cut, the same frames begin, and the same bytes are left without GOAWAY."""
    heads = [len(data).to_bytes(3, "big") + bytes([kind, flags]) + bytes(4) for kind, flags, data in frames]
    whole = b"".join(head + data for head, (_, _, data) in zip(heads, frames, strict=True))
    kept = b"".join(h + data for h, (kind, _, data) in zip(heads, frames, strict=True) if kind != GOAWAY)
    scanner, rest, left, begun = Frames(), whole, b"", []
    for size in [*cuts, len(whole)]:
        piece, rest = rest[:size], rest[size:]
        passed, heads_begun = scanner.feed(piece)
        left += passed
        begun += heads_begun
    assert left == kept
    assert [(kind, flags, len(data)) for kind, flags, data in frames] == [tuple(frame) for frame in begun]
    blocks = [kind for kind, _, _ in frames if kind in (1, 5, CONTINUATION)]
    last = next((flags for kind, flags, _ in reversed(frames) if kind in (1, 5, CONTINUATION)), 4)
    assert scanner.unfinished is bool(blocks and not last & 4)
    assert (scanner.goaway is not None) is any(kind == GOAWAY and len(data) >= 8 for kind, _, data in frames)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 5))))
def test_an_allowance_is_never_exceeded(steps: list[tuple[float, int]]) -> None:
    """What is let through within any time is at most the burst and what was earned."""
    allowance, now, passed = Allowance(10, 2, 0.0), 0.0, 0
    for pause, count in steps:
        now += pause
        if not allowance.spend(count, now):
            break
        passed += count
        assert passed <= 10 + 2 * now + 1e-6
