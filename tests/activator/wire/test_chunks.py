"""What the chunks of a body announce counts before it comes."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.activator.wire.test_server import QUICK, connected, echo, serving
from zerotide.activator.wire.chunks import LONGEST_LINE, ChunkSizes

POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENT = replace(QUICK, idle_time=60.0, body_time=60.0, head_time=60.0)


def encoded(chunks: list[bytes], extension: bytes = b"") -> bytes:
    """Return a body in chunks."""
    return b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"


@given(
    st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(0, 400)), st.sampled_from((b"", b";a=1", b" ;x"))
)
def test_sizes_add_up_however_they_are_cut(chunks: list[bytes], cuts: list[int], extension: bytes) -> None:
    """To the length of the body at its end, never to less than came; what follows it counts for nothing."""
    body = encoded(chunks, extension) + b"ff\r\nPOST / HTTP/1.1\r\n"
    sizes, start, told = ChunkSizes(), 0, [0]
    for end in [*sorted(cuts), len(body)]:
        told.append(sizes.feed(body[start:end]))
        start = max(start, end)
    assert told == sorted(told)
    assert told[-1] == sum(map(len, chunks))


@given(st.integers(1, 2**64))
def test_a_size_counts_once_its_line_is_over(size: int) -> None:
    """Before a byte of the chunk came, and not before the line's end: more digits might follow."""
    sizes = ChunkSizes()
    assert sizes.feed(b"3\r\nabc\r\n%x" % size) == 3
    assert sizes.feed(b"\r\n") == 3 + size


@given(st.binary(max_size=60))
def test_rubbish_is_no_size(data: bytes) -> None:
    """Whatever comes is watched without a fault: llhttp refuses it."""
    assert ChunkSizes().feed(data) >= 0


def test_a_line_without_an_end_is_not_kept() -> None:
    """Memory is bounded, whoever feeds it."""
    sizes = ChunkSizes()
    for _ in range(100):
        sizes.feed(b";" * LONGEST_LINE)
    assert len(sizes._line) <= 2 * LONGEST_LINE


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_a_chunk_larger_than_allowed_is_refused_at_once(step: int) -> None:
    """Nobody waits for a rest that would be refused anyway."""
    async with serving(echo, PATIENT) as (server, port), connected(port) as client:
        sent = POST + b"3\r\nabc\r\nfffff\r\n"
        for start in range(0, len(sent), step):
            client.send(sent[start : start + step])
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert server.door.faults == {"body_bytes": 1}


async def test_chunks_within_bounds_pass() -> None:
    """Also behind one another on a connection, and in one piece with the next request."""
    async with serving(echo, PATIENT) as (server, port), connected(port) as client:
        client.send(POST + encoded([b"ab", b"c"]) + POST + encoded([b"d" * 40, b"e" * 40]))
        assert (await client.answer())[2] == b"POST abc"
        assert (await client.answer())[2] == b"POST " + b"d" * 40 + b"e" * 40
        client.send(POST + encoded([b"f"]))
        assert (await client.answer())[2] == b"POST f"
        assert not server.door.faults
