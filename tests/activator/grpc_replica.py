"""A model server of gRPC that is none, made with grpcio; it fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import grpc
import grpc.aio

from tests.activator.stack import Stack, until
from zerotide.activator.wire.h2.frames import RST_STREAM, Frames

SERVICE = "inference.GRPCInferenceService"
METHODS = ("Infer", "Stream", "Chat", "Fail", "Upload", "Flood", "Nothing")
INFER, STREAM, CHAT, FAIL, UPLOAD, FLOOD, NOTHING = PATHS = tuple(f"/{SERVICE}/{name}" for name in METHODS)
SPEC: dict[str, Any] = {
    "runtime": {"engine": "custom", "image": "triton", "protocol": "GRPC"},
    "request": {"extraPaths": list(PATHS)},
}
Context = Any


class GrpcReplica:
    """What the server saw, and how it behaves."""

    def __init__(self) -> None:
        self.port = 0
        self.serving = True
        self.seen: list[dict[str, Any]] = []
        self.remaining: list[float | None] = []
        self.cancelled = self.received = self.sent = 0
        self.hold: asyncio.Event | None = None
        self.server: Any = None

    def note(self, context: Context) -> None:
        """Remember what came with a call."""
        self.seen.append(dict(context.invocation_metadata() or ()))
        self.remaining.append(context.time_remaining())

    async def infer(self, request: bytes, context: Context) -> bytes:
        """Answer one message with it in capitals."""
        self.note(context)
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await context.send_initial_metadata((("x-model", "m"),))
        context.set_trailing_metadata((("x-cost", "7"), ("x-data-bin", b"\x00\x01")))
        return request.upper()

    async def stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Answer with as many messages as asked for."""
        self.note(context)
        for number in range(int(request)):
            yield b"%d" % number

    async def chat(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answer every message as it comes."""
        self.note(context)
        try:
            async for request in requests:
                yield request.upper()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def upload(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Count messages."""
        async for _ in requests:
            self.received += 1
        return b"%d" % self.received

    async def flood(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Answer without end."""
        while True:
            yield bytes(65536)
            self.sent += 1

    async def fail(self, request: bytes, context: Context) -> bytes:
        """Refuse."""
        self.note(context)
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "déjà vu 100%")
        return b""

    async def health(self, request: bytes, context: Context) -> bytes:
        """Say whether it serves."""
        return b"\x08\x01" if self.serving else b"\x08\x02"

    def handlers(self) -> list[Any]:
        """Return both services."""
        ours = {
            "Infer": grpc.unary_unary_rpc_method_handler(self.infer),
            "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Flood": grpc.unary_stream_rpc_method_handler(self.flood),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }
        health = {"Check": grpc.unary_unary_rpc_method_handler(self.health)}
        return [
            grpc.method_handlers_generic_handler(SERVICE, ours),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        ]


@asynccontextmanager
async def grpc_replica(port: int = 0, *options: tuple[str, Any]) -> AsyncIterator[GrpcReplica]:
    """Serve on loopback."""
    replica = GrpcReplica()
    replica.server = grpc.aio.server(options=options)
    replica.server.add_generic_rpc_handlers(replica.handlers())
    replica.port = replica.server.add_insecure_port(f"127.0.0.1:{port}")
    await replica.server.start()
    try:
        yield replica
    finally:
        await replica.server.stop(None)


@asynccontextmanager
async def channel(stack: Stack, *options: tuple[str, Any], host: str = "m.demo.svc") -> AsyncIterator[Any]:
    """Connect to the activator as a client of an endpoint."""
    given = (("grpc.default_authority", host), ("grpc.use_local_subchannel_pool", 1), *options)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.service.port}", options=given) as made:
        yield made


class Cable:
    """What connects an activator with a replica, until it is cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = self.resets = 0
        """Connections so far, and streams on them that the replica reset."""

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cut it."""
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Drop every connection, and take no more."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, far_writer]
        self.connections += 1
        for source, sink, frames in ((reader, far_writer, None), (far_reader, writer, Frames())):
            task = asyncio.create_task(self._copy(source, sink, frames))
            self._tasks.add(task)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, frames: Frames | None) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if frames is not None:
                    self.resets += sum(frame.kind == RST_STREAM for frame in frames.feed(data)[1])
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


def key(stack: Stack) -> tuple[tuple[str, str], ...]:
    """Return the metadata that shows the key."""
    return (("authorization", f"Bearer {stack.keys['k']}"),)


async def awake(stack: Stack, replica: GrpcReplica | Cable, **spec: Any) -> None:
    """Have an endpoint with this replica, and a key."""
    endpoint = stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, **spec_for(replica.port, **spec))
    stack.key()
    stack.pod(replica.port)
    await until(lambda: not endpoint.gate.cold)


def spec_for(port: int, **spec: Any) -> dict[str, Any]:
    """Return the spec of an endpoint whose replicas listen on a port."""
    return {**SPEC, "runtime": {**SPEC["runtime"], "port": port}, **spec}


async def failure(call: Callable[[], Any]) -> grpc.aio.AioRpcError:
    """Return how a call fails."""
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")
