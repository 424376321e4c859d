"""A model server that is none: it speaks OpenAI's and TGI's protocols on loopback, and fails on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

WORDS = ("The", " capital", " of", " France", " is", " Paris", ".")
TEXT = "".join(WORDS)


@dataclass
class Received:
    """A request that the replica got."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def json(self) -> dict[str, Any]:
        """Return the body's object."""
        content: dict[str, Any] = json.loads(self.body)
        return content


Behaviour = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Replica:
    """Serve until left; `behave` replaces the answer to POSTs, `hold` delays it until the event is set."""

    ready: bool = True
    behave: Behaviour | None = None
    hold: asyncio.Event | None = None
    startup: dict[str, Any] | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0

    async def __aenter__(self) -> Self:
        """Listen on a free port, or again on the one it had."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop every connection."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def posts(self) -> list[Received]:
        """Return the requests that were no probes."""
        return [request for request in self.received if request.method == "POST"]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                request = await read_request(reader)
                self.received.append(request)
                await self._answer(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.method == "GET":
            return self._answer_get(request, writer)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.hold is not None:
                await self.hold.wait()
            await (self.behave or answer)(request, writer)
        finally:
            self.in_flight -= 1

    def _answer_get(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == "/startup" and self.startup is not None:
            send_json(writer, self.startup)
        elif request.target == "/startup":
            send(writer, 404, b"")
        else:
            send(writer, 200 if self.ready else 503, b"")


async def read_request(reader: asyncio.StreamReader) -> Received:
    """Read one request; raise IncompleteReadError at the end of the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = int(dict(headers).get("content-length", "0"))
    return Received(method, target, headers, await reader.readexactly(length))


def send(writer: asyncio.StreamWriter, status: int, body: bytes, **headers: str) -> None:
    """Send an answer with a length."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines, "", ""])
    writer.write(head.encode() + body)


def send_json(writer: asyncio.StreamWriter, content: Any, status: int = 200, **headers: str) -> None:
    """Send JSON."""
    send(writer, status, json.dumps(content).encode(), content_type="application/json", **headers)


class Events:
    """A stream of server-sent events, sent in chunks."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())

    async def event(self, content: Any) -> None:
        """Send one event."""
        text = content if isinstance(content, str) else json.dumps(content)
        self.raw(f"data: {text}\n\n".encode())
        await self._writer.drain()

    def raw(self, data: bytes) -> None:
        """Send a chunk as it is."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """End the stream as complete."""
        self._writer.write(b"0\r\n\r\n")


async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer as a real engine would, always the same."""
    if request.target.startswith("/v1/audio/"):
        return send_json(writer, {"text": TEXT})
    wanted = request.json
    path = request.target.partition("?")[0]
    if path == "/v1/chat/completions":
        await chat(wanted, writer)
    elif path == "/v1/embeddings":
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        send_json(writer, {"object": "list", "data": data, "model": wanted["model"], "usage": usage(0)})
    elif path == "/generate_stream" or (path == "/" and wanted.get("stream")):
        await generate_stream(writer)
    elif path in ("/", "/generate"):
        details = {"finish_reason": "eos_token", "generated_tokens": 7, "seed": None, "prefill": [], "tokens": []}
        content: Any = {"generated_text": TEXT}
        if (wanted.get("parameters") or {}).get("details"):
            content["details"] = details
        whole = [content] if path == "/" else content
        send_json(writer, whole, x_prompt_tokens="5", x_generated_tokens="7")
    else:
        send_json(writer, {"echo": wanted})


async def chat(wanted: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Answer a chat, streamed where that is asked for."""
    base = {"id": "chatcmpl-1", "created": 1, "model": wanted["model"], "system_fingerprint": "fp"}
    if not wanted.get("stream"):
        message = {"role": "assistant", "content": TEXT}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        send_json(writer, {**base, "object": "chat.completion", "choices": [choice], "usage": usage(7)})
        return
    stream = Events(writer)
    base["object"] = "chat.completion.chunk"
    for index, word in enumerate(WORDS):
        delta = {"content": word} if index else {"role": "assistant", "content": word}
        last = "stop" if index == len(WORDS) - 1 else None
        await stream.event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": last}]})
    if (wanted.get("stream_options") or {}).get("include_usage"):
        await stream.event({**base, "choices": [], "usage": usage(7)})
    await stream.event("[DONE]")
    stream.end()


async def generate_stream(writer: asyncio.StreamWriter) -> None:
    """Stream as TGI does."""
    stream = Events(writer)
    for index, word in enumerate(WORDS, 1):
        last = index == len(WORDS)
        details = {"finish_reason": "eos_token", "generated_tokens": 7, "input_length": 5, "seed": None}
        token = {"id": index, "text": word, "logprob": -0.1, "special": False}
        await stream.event(
            {
                "index": index,
                "token": token,
                "generated_text": TEXT if last else None,
                "details": details if last else None,
            }
        )
    stream.end()


def usage(made: int) -> dict[str, int]:
    """Return OpenAI's usage."""
    return {"prompt_tokens": 5, "completion_tokens": made, "total_tokens": 5 + made}


async def reset(request: Received, writer: asyncio.StreamWriter) -> None:
    """Drop the connection without an answer."""
    writer.transport.abort()
    raise ConnectionResetError


async def truncate(request: Received, writer: asyncio.StreamWriter) -> None:
    """Begin an answer and drop the connection."""
    if request.json.get("stream"):
        stream = Events(writer)
        for word in WORDS[:3]:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            await stream.event(
                {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            )
        stream.raw(b'data: {"half')
    else:
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        writer.write(head.encode())
    with suppress(ConnectionError):
        await writer.drain()
    writer.close()
    raise ConnectionResetError
