"""Answers that are read without a parser: what a parser says of them, wherever they are cut in pieces."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.kube import ConnectionFailed
from zerotide.kube.answer import Answer, beginning
from zerotide.kube.wire import _Connection

LINES = [
    b"Content-Length: 2",
    b"content-length: 3",
    b"Content-Length: 0",
    b"Content-Length: +2",
    b"Content-Length: 2, 2",
    b"Content-Length:2",
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip",
    b"Connection: close",
    b"Retry-After: 1",
    b"Content-Type: application/json",
    b"X: a\nContent-Length: 3",
    b"Date: Thu, 26 Nov 2026 09:00:00 GMT",
]
STARTS = [b"HTTP/1.1 200 OK", b"HTTP/1.1 201 Created", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 None", b"HTTP/1.1 404 No"]
BODIES = [b"", b"o", b"ok", b"ok\r\n\r\n", OK := b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]


class Parsed:
    """What a parser makes of an answer."""

    def __init__(self, data: bytes) -> None:
        self.body, self.whole, self.lasting = b"", False, False
        self.parser: Any = httptools.HttpResponseParser(self)
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Take a piece."""
        self.body += data

    def on_message_complete(self) -> None:
        """Note the end."""
        self.whole = True

    def on_headers_complete(self) -> None:
        """Note whether another answer may follow."""
        self.lasting = self.parser.should_keep_alive()


class Sent(asyncio.Transport):
    """A transport that keeps what is sent, and whether it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def write(self, data: Any) -> None:
        """Send into the void."""

    def is_closing(self) -> bool:
        """Tell whether it was cut."""
        return self.cut

    def abort(self) -> None:
        """Cut."""
        self.cut = True


def connected(loop: asyncio.AbstractEventLoop) -> tuple[_Connection, Sent]:
    """Return a connection to nobody."""
    connection, transport = _Connection(loop.create_future(), lambda _: None), Sent()
    connection.connection_made(transport)
    return connection, transport


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("body", BODIES)
def test_a_parser_agrees(start: bytes, body: bytes) -> None:
    """Whatever is taken for plain is whole exactly when the parser says so, with the same body, and not the last."""
    for lines in itertools.chain.from_iterable(itertools.product(LINES, repeat=count) for count in range(3)):
        data = b"\r\n".join([start, *lines, b"", body])
        plain = beginning(data)
        if plain is None:
            continue
        (answer, missing), parsed = plain, Parsed(data)
        assert (answer.status, answer.body) == (parsed.parser.get_status_code(), parsed.body), data
        assert (missing == 0) == parsed.whole, data
        assert parsed.lasting, data


def test_what_is_plain() -> None:
    """The answer of an API server to a write, in lower or upper case; and nothing behind it."""
    assert beginning(OK) == (Answer(200, {b"content-length": b"2"}, b"ok"), 0)
    assert beginning(OK[:-1]) == (Answer(200, {b"content-length": b"2"}, b"o"), 1)
    assert beginning(OK.lower().replace(b"http", b"HTTP").replace(b"2\r", b"002\r")) is not None
    assert beginning(OK + b"x") is None
    assert beginning(OK[:20]) is None


@given(st.sets(st.integers(1, len(OK) - 1)))
def test_any_pieces(cuts: set[int]) -> None:
    """An answer may come in pieces, cut anywhere; the next one over the same connection is read as well."""

    async def read() -> list[Answer]:
        connection, transport = connected(asyncio.get_running_loop())
        answers = []
        for _ in range(2):
            asked = connection.ask(b"")
            for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(OK)], strict=True):
                assert not asked.done()
                connection.data_received(OK[begin:end])
            answers.append(asked.result())
        assert connection.usable and not transport.cut
        return answers

    assert asyncio.run(read()) == [Answer(200, {b"content-length": b"2"}, b"ok")] * 2


async def test_more_than_was_announced() -> None:
    """The answer counts, and nothing that comes behind it is taken for the next one's."""
    connection, transport = connected(asyncio.get_running_loop())
    asked = connection.ask(b"")
    connection.data_received(OK[:-1])
    connection.data_received(b"k" + OK)
    assert (await asked).body == b"ok"
    assert transport.cut and not connection.usable


async def test_less_than_was_announced() -> None:
    """An answer that breaks off is none."""
    connection, _ = connected(asyncio.get_running_loop())
    asked = connection.ask(b"")
    connection.data_received(OK[:-1])
    connection.connection_lost(None)
    assert isinstance(asked.exception(), ConnectionFailed) and "broke off" in str(asked.exception())
