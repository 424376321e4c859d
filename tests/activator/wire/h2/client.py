"""A client of HTTP/2 that sends what it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

Headers = list[tuple[str, str]]


class Answer:
    """What came on one stream."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.reset: int | None = None


class Client:
    """One connection; `acknowledge` opens the windows as data comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        config.normalize_outbound_headers = False
        self.engine = H2Connection(config)
        self.answers: dict[int, Answer] = {}
        self.goaways: list[ConnectionTerminated] = []
        self.acknowledge = True
        self.closed = False
        self.events: list[Event] = []

    def begin(self) -> None:
        """Send the preface."""
        self.engine.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what the engine has to send."""
        self.writer.write(self.engine.data_to_send())

    def request(self, *more: tuple[str, str], body: bytes | None = b"", method: str = "POST", path: str = "/x") -> int:
        """Send a request; a body of None leaves it open."""
        id = self.engine.get_next_available_stream_id()
        head: Headers = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), *more]
        names = [name for name, _ in more]
        head = [each for each in head[:4] if each[0] not in names] + list(more)
        self.engine.send_headers(id, head, end_stream=body == b"")
        if body:
            self.engine.send_data(id, body, end_stream=True)
        self.answers[id] = Answer()
        self.flush()
        return id

    def raw(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Send a frame that the engine would not."""
        self.writer.write(len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)

    async def read(self) -> None:
        """Take in what comes next."""
        data = await self.reader.read(65536)
        if not data:
            self.closed = True
            return
        for event in self.engine.receive_data(data):
            self.events.append(event)
            self._take(event)
        self.flush()

    async def until(self, look: Callable[[], Any]) -> None:
        """Read until `look` returns something true."""
        async with asyncio.timeout(5):
            while not look():
                await self.read()

    async def answer(self, id: int) -> Answer:
        """Return an answer once it ended, well or not."""
        answer = self.answers[id]
        await self.until(lambda: answer.ended or answer.reset is not None or self.goaways or self.closed)
        return answer

    async def goodbye(self) -> ConnectionTerminated:
        """Return the last word of the server, once the connection is closed."""
        await self.until(lambda: self.closed)
        return self.goaways[-1]

    def _take(self, event: Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0, Answer())
        if isinstance(event, ResponseReceived):
            fields = [(str(name), str(value)) for name, value in event.headers]
            answer.status, answer.headers = int(dict(fields)[":status"]), dict(fields[1:])
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if self.acknowledge:
                self.engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answer.trailers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goaways.append(event)


@asynccontextmanager
async def connected(port: int, *, begin: bool = True) -> AsyncIterator[Client]:
    """Connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = Client(reader, writer)
    if begin:
        client.begin()
    try:
        yield client
    finally:
        writer.close()
