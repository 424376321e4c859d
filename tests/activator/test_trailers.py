"""Trailers: fields after a body, passed on to clients that read them, where they may be."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.activator.replica import Received, Replica
from tests.activator.stack import Stack
from zerotide.activator.wire.trailers import accepts_trailers, passable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
TRAILERS = b"X-Sum: 7\r\nHost: evil\r\nAuthorization: x\r\nX-Zerotide-Error: forged\r\nServer-Timing: a;dur=1\r\n"


async def ask(stack: Stack, *lines: str, body: bytes = b'{"model":"m"}', framing: bytes = b"") -> bytes:
    """Send a request and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    head = ["POST /v1/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {stack.keys['k']}", *lines]
    framing = framing or b"Content-Length: %d" % len(body)
    writer.write("\r\n".join(head).encode() + b"\r\n" + framing + b"\r\n\r\n" + body)
    answer = await reader.readuntil(b"\r\n0\r\n")
    while not answer.endswith(b"\r\n\r\n"):
        answer += await reader.readline()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("lines", "trailers"),
    [
        ((), b""),
        (("TE: gzip;q=0.5, Trailers", "Connection: TE"), b"x-sum: 7\r\nserver-timing: a;dur=1\r\n"),
    ],
)
async def test_trailers_of_an_answer(stack: Stack, replica: Replica, lines: tuple[str, ...], trailers: bytes) -> None:
    """They reach a client that said that it reads them, those about framing, credentials and us never."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"2\r\nok\r\n0\r\n" + TRAILERS + b"\r\n")

    await stack.awake(replica)
    replica.behave = behave
    for _ in range(2):
        answer = await ask(stack, *lines)
        assert answer.endswith(b"2\r\nok\r\n0\r\n" + trailers + b"\r\n")
    assert "te" not in {name for name, _ in replica.posts[0].headers}
    assert replica.connections == 1


async def test_too_many_trailers(stack: Stack, replica: Replica) -> None:
    """Trailers count as the head does: a replica cannot make us remember things without end."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"2\r\nok\r\n0\r\n" + b"X: %b\r\n" % bytes(1000).replace(b"\0", b"x") * 100)

    await stack.awake(replica)
    replica.behave = behave
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    lines = ["POST /v1/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {stack.keys['k']}"]
    writer.write("\r\n".join([*lines, "Content-Length: 13", "", '{"model":"m"}']).encode())
    answer = await reader.read()
    assert answer.endswith(b"2\r\nok\r\n")
    writer.close()


async def test_trailers_of_a_request(stack: Stack, replica: Replica) -> None:
    """They are read, bounded and dropped: what goes to a replica is framed by its length."""
    await stack.awake(replica)
    head = ["POST /v1/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {stack.keys['k']}"]
    start = "\r\n".join([*head, "Transfer-Encoding: chunked", "", 'd\r\n{"model":"m"}\r\n0\r\n']).encode()
    for trailers, status in (
        (b"X-A: 1\r\nHost: evil\r\n\r\n", b" 200 "),
        (b"X-A: 1\nX-B: 2\r\n\r\n", b" 400 "),
        (b"X A: 1\r\n\r\n", b" 400 "),
        (b"Content-Length: 1\r\n\r\n", b" 400 "),
        (b"X-A: 1\r\n" * 5000 + b"\r\n", b" 413 "),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
        writer.write(start + trailers)
        assert status in await reader.readline()
        writer.close()
    assert [post.body for post in replica.posts] == [b'{"model":"m"}']
    assert "x-a" not in {name for name, _ in replica.posts[0].headers}


NAMES = st.sampled_from([b"x-sum", b"grpc-status", b"content-length", b"transfer-encoding", b":status", b"etag"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=4))))
def test_what_may_pass(trailers: list[tuple[bytes, bytes]]) -> None:
    """Order and repetition stay; what frames or routes goes."""
    assert passable(trailers) == [each for each in trailers if each[0] in (b"x-sum", b"grpc-status", b"etag")]


def test_who_reads_trailers() -> None:
    """The word, in any case, among others; not within another one."""
    assert accepts_trailers([(b"te", b"gzip"), (b"te", b"deflate;q=0.1, TRAILERS;q=1")])
    assert not accepts_trailers([(b"te", b"xtrailers"), (b"trailer", b"trailers")])
