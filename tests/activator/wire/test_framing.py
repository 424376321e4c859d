"""RFC 9112 in practice: where requests and answers begin and end, however their bytes arrive."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.activator.wire.test_server import QUICK, connected, echo, serving
from zerotide.activator.wire import Exchange

PATIENT = replace(QUICK, body_time=5.0, idle_time=5.0, head_time=5.0)
PIPELINE = b"".join(
    (
        b"\r\nGET /1 HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n",
        b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
        b"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n",
        b'1\r\nc\r\n00A;x="y"\r\ndefghijklm\r\n000\r\nX-Sum: 1\r\n\r\n',
        b"POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\nno",
        b"HEAD /5 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /6 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: x, CLOSE\r\n\r\n0\r\n\r\n",
    )
)
LATE = b"GET /7 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
async def test_a_pipeline_of_every_framing(size: int) -> None:
    """The same answers in the same order, wherever the bytes are cut; after `close` nothing is answered."""
    async with serving(limits=PATIENT) as (_, port), connected(port) as client:
        sent = PIPELINE + (LATE if size > len(PIPELINE) else b"")
        for start in range(0, len(sent), size):
            client.send(sent[start : start + size])
            await asyncio.sleep(0)
        whole = await client.rest()
    answers = whole.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").split(b"HTTP/1.1 ")[1:]
    assert [answer.split(b"x-target: ")[1].split(b"\r\n")[0] for answer in answers] == [b"/%d" % n for n in range(1, 7)]
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert bodies == [b"GET ", b"POST ab", b"POST cdefghijklm", b"POST no", b"", b"POST "]
    assert [b"connection: close" in answer for answer in answers] == [False] * 5 + [True]


async def test_an_expectation_is_met_only_where_it_is_waited_for() -> None:
    """100 comes once the body is asked for; a client that did not wait gets none, nor one that is refused."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == "/no":
            exchange.send(403, [], b"no")
        else:
            await echo(exchange)

    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving(handler, PATIENT) as (_, port):
        async with connected(port) as client:
            client.send(head % b"/x")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"abc")
            assert (await client.answer())[2] == b"POST abc"
        async with connected(port) as client:
            client.send(head % b"/no")
            status, headers, body = await client.answer()
            assert (status, headers["connection"], body) == (403, "close", b"no")
            assert await client.rest() == b""


async def test_answers_without_a_body() -> None:
    """HEAD, 204 and 304 end with their head, whatever it says of a length, and the connection goes on."""

    async def handler(exchange: Exchange) -> None:
        status = int(exchange.request.target[1:])
        exchange.start(status, [])
        exchange.write(b"" if status != 200 else b"body")
        exchange.end()

    async with serving(handler, PATIENT) as (_, port), connected(port) as client:
        for target, method in ((b"/204", b"GET"), (b"/304", b"GET"), (b"/200", b"HEAD"), (b"/204", b"HEAD")):
            client.send(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + target[1:])
            assert b"transfer-encoding" not in head
        client.send(b"GET /200 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer())[2] == b"body"


async def test_a_body_longer_than_announced_is_the_next_request() -> None:
    """And as such it is none: those before it are answered, and the last answer ends the connection."""
    for rest in (b"XYZ", b"\0\1\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n"):
        async with serving(limits=PATIENT) as (server, port), connected(port) as client:
            one = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
            client.send(one + b"a" + one + b"b" + rest)
            assert (await client.answer())[2] == b"POST a"
            _, headers, body = await client.answer()
            assert (headers["connection"], body) == ("close", b"POST b")
            assert await client.rest() == b""
            assert server.door.faults["malformed"] == 1
