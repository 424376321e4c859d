"""The HTTP parser: any cut of the bytes gives the same requests, and doubtful ones are refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide_runtime.server.message import BadMessage, Request, RequestParser

STREAM = (
    b'POST /generate?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n{"inputs":""}'
    b"GET /health HTTP/1.1\r\nhost: a\r\nX-Two: 1\r\nx-two: 2\r\n\r\n"
    b"\r\nPOST /a%20b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nT: x\r\n\r\n"
    b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nok"
)


def parse(pieces: list[bytes], max_body: int = 1000) -> list[Request]:
    parser = RequestParser(max_body)
    requests = []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.take()) is not None:
            requests.append(request)
    return requests


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cut_gives_the_same_requests(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    first, second, third, fourth = parse([STREAM[start:end] for start, end in pairwise(edges)])
    assert (first.method, first.path, first.body, first.keep_alive) == ("POST", "/generate", b'{"inputs":""}', True)
    assert (second.method, second.path, second.body) == ("GET", "/health", b"")
    assert second.headers["x-two"] == "1, 2"
    assert (third.path, third.body) == ("/a b", b"Wikipedia")
    assert (fourth.path, fourth.body, fourth.keep_alive) == ("/", b"ok", False)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close", False),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive", True),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive", True),
        ("GET / HTTP/1.0", False),
    ],
)
def test_who_keeps_the_connection(head: str, keep_alive: bool) -> None:
    (request,) = parse([f"{head}\r\n\r\n".encode()])
    assert request.keep_alive is keep_alive


def post(*headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: a", *headers]).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nSpace : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        (post("Content-Length: 3", "Transfer-Encoding: chunked"), 400),
        (post("Content-Length: 3", "Content-Length: 4"), 400),
        (post("Content-Length: +3"), 400),
        (post("Content-Length: 1001"), 413),
        (post("Transfer-Encoding: gzip, chunked"), 501),
        (post("Content-Length: 3", "Content-Encoding: gzip"), 415),
        (post("Transfer-Encoding: chunked", body=b"xyz\r\n"), 400),
        (post("Transfer-Encoding: chunked", body=b"3\r\nabcd\r\n"), 400),
        (post("Transfer-Encoding: chunked", body=b"3e9\r\n"), 413),
        (post("Transfer-Encoding: chunked", body=b"1" * 300), 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 40000, 431),
    ],
)
def test_doubtful_requests_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as refused:
        parse([data])
    assert refused.value.status == status


def test_the_go_ahead_is_asked_for_once() -> None:
    parser = RequestParser(1000)
    parser.feed(post("Content-Length: 2", "Expect: 100-continue"))
    assert parser.take() is None
    assert parser.wants_continue()
    assert not parser.wants_continue()
    parser.feed(b"ok")
    request = parser.take()
    assert request is not None
    assert request.body == b"ok"
