"""Requests over kept-alive connections: what is used again, what is repeated, and what every failure becomes."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.activator.wire.certificates import Authority
from zerotide.kube import Client, ConnectionFailed, Credentials
from zerotide.kube.answer import Answer
from zerotide.kube.wire import KEEP, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read one request, with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head


class Server:
    """Answer each request with the next of some texts; an empty one closes the connection instead."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.got: list[tuple[int, bytes]] = []
        """Each request, and over which connection it came."""
        self.connections = 0
        self.silent = asyncio.Event()
        """Set once a request has come for which no answer is left."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play on one connection."""
        self.connections += 1
        number = self.connections
        try:
            while True:
                self.got.append((number, await request(reader)))
                if not self.answers:
                    self.silent.set()
                    await reader.read()
                    return
                answer = self.answers.pop(0)
                if not answer:
                    return
                writer.write(answer)
                if b"Connection: close" in answer or (b"Content-Length" not in answer and b"chunked" not in answer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now


@asynccontextmanager
async def wire(
    server: Server, *, path: str = "", tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None, patience: float = 5.0
) -> AsyncIterator[tuple[Wire, Time]]:
    """Give a wire to a scripted server, and the clock that it goes by; `tls` are contexts of server and client."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls[0] if tls else None)
    port = listening.sockets[0].getsockname()[1]
    clock = Time()
    scheme = "https" if tls else "http"
    url = f"{scheme}://127.0.0.1:{port}{path}"
    opened = Wire(url, tls[1] if tls else None, {"User-Agent": "test"}, patience=patience, now=clock)
    try:
        yield opened, clock
    finally:
        await opened.close()
        listening.close()
        await listening.wait_closed()


def secured(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server and of a client that trusts it."""
    authority = Authority(folder / "ca")
    authority.mount(folder / "server")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "server" / "tls.crt", folder / "server" / "tls.key")
    return serving, authority.client()


async def send(
    over: Wire,
    method: str = "GET",
    path: str = "/a",
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Send a request with the least that it needs."""
    return await over.send(method, path, query=query or {}, headers=headers or {}, body=body)


async def test_what_is_sent() -> None:
    """The line with the server's own path before ours, headers once, the body whole."""
    server = Server(OK, OK)
    async with wire(server, path="/clusters/a/") as (over, _):
        answer = await send(over, "PATCH", "/b/ü c", query={"x": "1&2"}, headers={"A": "b"}, body=b"{}")
        await send(over, "GET", "/b%2Fc")
    assert (answer.status, answer.body) == (200, b"ok")
    first, second = (text.decode().split("\r\n") for _, text in server.got)
    assert first[0] == "PATCH /clusters/a/b/%C3%BC%20c?x=1%262 HTTP/1.1"
    assert first[1].startswith("Host: 127.0.0.1:")
    assert first[2:] == ["User-Agent: test", "A: b", "Content-Length: 2", "", "{}"]
    assert second[0] == "GET /clusters/a/b%2Fc HTTP/1.1" and "Accept-Encoding: gzip" in second


async def test_a_header_with_a_line_break_is_not_sent() -> None:
    """It would be two headers, or two requests."""
    server = Server(OK)
    async with wire(server) as (over, _):
        with pytest.raises(ValueError, match="line break"):
            await send(over, headers={"Authorization": "a\r\nX: b"})
    assert server.got == []


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(b"ok", mtime=0))
        + gzip.compress(b"ok", mtime=0),
    ],
)
async def test_how_a_body_may_come(answer: bytes) -> None:
    """Of known length, in chunks, until the end of the connection, compressed, and after an interim answer."""
    async with wire(Server(answer, OK)) as (over, _):
        assert (await send(over)).body == b"ok"
        assert (await send(over)).body == b"ok", "and the next one is not in its way"


async def test_connections_are_used_again() -> None:
    """One after the other takes one, at the same time take several, and one that was idle for long none."""
    server = Server(*[OK] * 6)
    async with wire(server) as (over, clock):
        for _ in range(2):
            await send(over)
        assert server.connections == 1
        await asyncio.gather(send(over), send(over), send(over))
        assert server.connections == 3
        clock.now = KEEP
        await send(over)
        assert server.connections == 4


async def test_connections_that_are_kept_ready() -> None:
    """One is made at a time until there are enough; then those that were idle for long are used, the oldest first."""
    server = Server(*[OK] * 20)
    async with wire(server) as (over, clock):
        for count in (1, 2, 3, 3):
            await over.refresh(3, {"A": "b"})
            assert server.connections == count
        assert server.got[0][1].startswith(b"GET /version HTTP/1.1\r\n") and b"\r\nA: b\r\n" in server.got[0][1]
        assert len(server.got) == 3, "none has been idle for long"
        clock.now = KEEP / 2
        for _ in range(4):
            await over.refresh(3, {})
        assert [number for number, _ in server.got[3:]] == [1, 2, 3]
        clock.now = KEEP * 1.25
        await asyncio.gather(send(over), send(over), send(over))
        assert server.connections == 3, "a burst needs no new one"


async def test_connections_that_are_ready_no_more() -> None:
    """Others are made for those that the server closed, and for those that were left alone for too long."""
    server = Server(OK, OK, b"", OK, OK)
    async with wire(server) as (over, clock):
        await over.refresh(2, {})
        await over.refresh(2, {})
        clock.now = KEEP / 2
        with pytest.raises(ConnectionFailed, match="no answer came"):
            await over.refresh(2, {})
        await over.refresh(2, {})
        assert server.connections == 3
        clock.now = KEEP * 2
        server.answers += [OK, OK]
        await over.refresh(2, {})
        assert server.connections == 4


async def test_a_client_keeps_connections_ready() -> None:
    """With its own headers, and on through failures: nobody waits for these requests."""
    server = Server(OK, b"", OK)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with Client(Credentials(f"http://127.0.0.1:{port}", None, lambda: "secret")) as client:
        keeping = asyncio.create_task(client.keep_ready(1000))
        await asyncio.wait_for(server.silent.wait(), 5)
        assert not keeping.done()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    listening.close()
    await listening.wait_closed()
    assert [number for number, _ in server.got] == [1, 2, 3, 4]
    assert all(b"\r\nAuthorization: Bearer secret\r\n" in text for _, text in server.got)


async def test_no_connection_can_be_kept_ready(unused_tcp_port: int) -> None:
    """It says so."""
    over = Wire(f"http://127.0.0.1:{unused_tcp_port}", None, {})
    with pytest.raises(ConnectionFailed, match=f"GET http://127.0.0.1:{unused_tcp_port}/version: ConnectionRefused"):
        await over.refresh(1, {})
    await over.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_that_was_closed_meanwhile(tls: bool, tmp_path: Path) -> None:
    """A read is sent again; a write that may have been done is not."""
    contexts = secured(tmp_path) if tls else None
    server = Server(OK, b"", OK, b"", OK)
    async with wire(server, tls=contexts) as (over, _):
        await send(over)
        assert (await send(over)).body == b"ok"
        assert [number for number, _ in server.got] == [1, 1, 2]
        with pytest.raises(ConnectionFailed, match=r"POST http.*/a: no answer came"):
            await send(over, "POST", body=b"{}")
        assert (await send(over, "POST", body=b"{}")).body == b"ok"


async def test_a_new_connection_that_is_closed_is_no_reason_to_repeat() -> None:
    """Whoever does not answer at all would be asked for ever."""
    server = Server(b"", OK)
    async with wire(server) as (over, _):
        with pytest.raises(ConnectionFailed, match="no answer came"):
            await send(over)
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nok", "broke off"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", "Error"),
    ],
)
async def test_an_answer_that_is_none(answer: bytes, says: str) -> None:
    """It says which request, and what was wrong."""
    async with wire(Server(answer)) as (over, _):
        with pytest.raises(ConnectionFailed, match=f"GET http://127.0.0.1:[0-9]+/a: .*{says}"):
            await send(over)


async def test_no_answer_in_time() -> None:
    """The connection is cut: its answer would be taken for the next request's."""
    server = Server()
    async with wire(server, patience=0.1) as (over, _):
        with pytest.raises(ConnectionFailed, match="no answer came in time"):
            await send(over)
        server.answers.append(OK)
        assert (await send(over)).body == b"ok"
    assert [number for number, _ in server.got] == [1, 2]


async def test_a_request_that_is_given_up() -> None:
    """So is its connection."""
    server = Server()
    async with wire(server) as (over, _):
        asking = asyncio.create_task(send(over))
        await server.silent.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        server.answers.append(OK)
        assert (await send(over)).body == b"ok"
    assert [number for number, _ in server.got] == [1, 2]


async def test_an_end_in_the_middle() -> None:
    """Whoever waits when the wire is closed is told."""
    server = Server()
    async with wire(server) as (over, _):
        asking = asyncio.create_task(send(over))
        await server.silent.wait()
        await over.close()
        with pytest.raises(ConnectionFailed, match="no answer came"):
            await asking


async def test_nobody_listens(unused_tcp_port: int) -> None:
    """The message says where."""
    over = Wire(f"http://127.0.0.1:{unused_tcp_port}", None, {})
    with pytest.raises(ConnectionFailed, match=f"http://127.0.0.1:{unused_tcp_port}/a: ConnectionRefusedError"):
        await send(over)
    await over.close()


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    """No request goes to such a server."""
    serving, _ = secured(tmp_path)
    server = Server(OK)
    async with wire(server, tls=(serving, ssl.create_default_context())) as (over, _):
        with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await send(over)
    assert server.got == []
