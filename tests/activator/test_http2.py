"""HTTP/2 through the whole activator: what holds for HTTP/1.1 holds for each stream."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import grpc

from tests.activator.grpc_replica import INFER, awake, grpc_replica
from tests.activator.grpc_replica import key as grpc_key
from tests.activator.replica import TEXT, Received, Replica, truncate
from tests.activator.stack import Stack, until
from tests.activator.test_streams import beating
from tests.activator.wire.certificates import Authority
from tests.activator.wire.h2.client import Answer, Client, connected
from zerotide.activator.wire import Certificate, open_socket
from zerotide.api.usage import Outcome, Tokens

CHAT = "/v1/chat/completions"


def ask(client: Client, stack: Stack, path: str = CHAT, *more: tuple[str, str], **body: Any) -> int:
    """Send a request with the key, if there is one."""
    shown = [("authorization", f"Bearer {stack.keys['k']}")] if "k" in stack.keys else []
    content = json.dumps({"model": "m", "messages": [], **body}).encode()
    return client.request(("content-type", "application/json"), *shown, *more, path=path, body=content)


async def test_an_answer_with_its_usage(stack: Stack, replica: Replica) -> None:
    """Found by model, authenticated, forwarded over HTTP/1.1, answered, metered."""
    await stack.awake(replica)
    async with connected(stack.service.port) as client:
        answer = await client.answer(
            ask(client, stack, CHAT, ("x-request-id", "mine-1"), ("cookie", "a"), ("cookie", "b"))
        )
    assert (answer.status, answer.headers["x-request-id"]) == (200, "mine-1")
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == TEXT
    seen = replica.posts[0]
    assert (seen.get("host"), seen.get("x-forwarded-host"), seen.get("x-forwarded-for")) == ("m.demo", "x", "127.0.0.1")
    assert seen.get("cookie") == "a; b"
    assert "authorization" not in {name for name, _ in seen.headers}
    await until(lambda: stack.records()[1])
    assert stack.records()[1][0].tokens == Tokens(input=5, output=7)


async def test_refusals(stack: Stack, replica: Replica) -> None:
    """Each is an answer on its own stream, with the code and the words of the table."""
    async with connected(stack.service.port) as client:
        stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, request={"maxBodyBytes": "1Ki"})
        refused = await client.answer(ask(client, stack))
        assert (refused.status, refused.headers["x-zerotide-error"]) == (401, "invalid_api_key")
        stack.key()
        refused = await client.answer(ask(client, stack, "/metrics"))
        assert (refused.status, refused.headers["x-zerotide-error"]) == (404, "route_not_found")
        refused = await client.answer(ask(client, stack, long="x" * 2000))
        assert (refused.status, refused.headers["x-zerotide-error"]) == (413, "request_too_large")
        shown = ("authorization", f"Bearer {stack.keys['k']}")
        models = await client.answer(client.request(shown, method="GET", path="/v1/models"))
        assert [each["id"] for each in json.loads(models.body)["data"]] == ["m"]
    assert not replica.received


async def events(stack: Stack, pod: int = 0, **body: Any) -> Answer:
    """Stream a chat to its end, good or bad; make a pod once a heartbeat came."""
    async with connected(stack.service.port) as client:
        id = ask(client, stack, stream=True, **body)
        if pod:
            await client.until(lambda: b": zerotide" in client.answers[id].body)
            stack.pod(pod)
        return await client.answer(id)


async def test_a_stream_from_zero(stack: Stack, replica: Replica) -> None:
    """Heartbeats while it is held, then events as they come, without the usage that nobody asked for."""
    beating(stack)
    stack.key()
    answer = await events(stack, replica.port)
    assert answer.ended
    assert answer.headers["x-zerotide-cold-start"] == "true"
    assert answer.body.startswith(b": zerotide state=Loading")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in answer.body


async def test_a_stream_that_breaks_off(stack: Stack, replica: Replica) -> None:
    """An error event, then a reset: no client can take it for a whole answer, and the connection goes on."""
    replica.behave = truncate
    await stack.awake(replica)
    async with connected(stack.service.port) as client:
        answer = await client.answer(ask(client, stack, stream=True))
        assert (answer.reset, answer.ended) == (2, False)
        assert b'"upstream_lost"' in answer.body
        replica.behave = None
        assert (await client.answer(ask(client, stack))).status == 200
    await until(lambda: len(stack.records()[1]) == 2)
    assert stack.records()[1][0].outcome is Outcome.LOST


async def test_a_client_that_gives_up(stack: Stack, replica: Replica) -> None:
    """Held or in flight, its place is free, and the engine stops."""
    endpoint = await stack.awake(replica, scaling={"concurrency": {"target": 1, "limit": 1}})
    replica.hold = asyncio.Event()
    async with connected(stack.service.port) as client:
        flying = ask(client, stack)
        await until(lambda: replica.in_flight == 1)
        held = ask(client, stack)
        await until(lambda: endpoint.gate.held == 1)
        for id in (held, flying):
            client.engine.reset_stream(id)
            client.flush()
        await until(lambda: not endpoint.gate.held and stack.records()[1])
        assert stack.records()[1][0].outcome is Outcome.CLIENT_GONE
        demand = stack.tracker.demand("demo/m")
        assert demand is not None
        assert (demand.held, demand.in_flight) == (0, 0)


async def test_trailers_of_a_replica(stack: Stack, replica: Replica) -> None:
    """Those that may pass reach a client that said that it reads them."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a\r\n\r\n"
        )

    await stack.awake(replica)
    replica.behave = behave
    async with connected(stack.service.port) as client:
        assert (await client.answer(ask(client, stack, CHAT, ("te", "trailers")))).trailers == {"x-sum": "7"}
        plain = await client.answer(ask(client, stack))
        assert (plain.body, plain.trailers) == (b"ok", {})


async def test_drained_streams(stack: Stack, replica: Replica) -> None:
    """At the end of a drain a stream is ended with words, and reset."""
    await stack.awake(replica)

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await asyncio.Event().wait()

    replica.behave = behave
    stack.service.settings = dataclasses.replace(stack.service.settings, drain_listen=0.1, drain_timeout=0.3)
    async with connected(stack.service.port) as client:
        id = ask(client, stack, stream=True)
        await client.until(lambda: b"data: 1" in client.answers[id].body)
        draining = asyncio.create_task(stack.service.drain())
        await client.until(lambda: client.answers[id].reset is not None)
        assert b'"error"' in client.answers[id].body
        await draining


async def test_over_tls(stack: Stack, tmp_path: Path) -> None:
    """Agreed upon by ALPN: curl chooses it, and gRPC, which speaks nothing else."""
    authority = Authority(tmp_path / "ca")
    authority.mount(tmp_path / "tls")
    port = await stack.service.server.listen(open_socket("127.0.0.1", 0), Certificate(tmp_path / "tls"))
    async with Replica() as replica, grpc_replica() as calls:
        await stack.awake(replica)
        command = [
            "curl",
            "-s",
            "--cacert",
            str(tmp_path / "ca" / "ca.crt"),
            "-w",
            "%{http_version}",
            "-d",
            '{"model":"m"}',
        ]
        shown = ["-H", f"Authorization: Bearer {stack.keys['k']}", "-H", "Content-Type: application/json"]
        process = await asyncio.create_subprocess_exec(
            *command, *shown, f"https://localhost:{port}{CHAT}", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out.endswith(b"}2")
        assert replica.posts[0].get("x-forwarded-proto") == "https"
        stack.delete_pod()
        await awake(stack, calls)
        trust = grpc.ssl_channel_credentials((tmp_path / "ca" / "ca.crt").read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{port}", trust) as client:
            metadata = (*grpc_key(stack), ("x-zerotide-endpoint", "demo/m"))
            assert await client.unary_unary(INFER)(b"x", metadata=metadata) == b"X"
