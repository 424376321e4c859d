"""A request's way to a replica that is there, and back."""

from __future__ import annotations

import asyncio
import json

from tests.activator.replica import TEXT, Received, Replica, send, send_json
from tests.activator.stack import Stack, until
from zerotide.activator.admission.naming import Name
from zerotide.api.usage import Outcome, Tokens


async def test_a_request_is_forwarded_and_answered(stack: Stack, replica: Replica) -> None:
    """The answer comes back whole, with the headers that tell how it came."""
    await stack.awake(replica)
    answer = await stack.post(x_request_id="mine-1")
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == TEXT
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-zerotide-cold-start"] == "false"
    assert int(answer.headers["x-zerotide-queue-ms"]) < 1000
    assert replica.posts[0].get("x-request-id") == "mine-1"


async def test_credentials_and_forged_headers_stay_here(stack: Stack, replica: Replica) -> None:
    """A replica sees neither the key nor what a client says of its way; it sees who we say called."""
    await stack.awake(replica)
    await stack.post(
        x_api_key="x",
        x_forwarded_for="6.6.6.6",
        forwarded="for=6.6.6.6",
        x_zerotide_replica="me",
        connection="x-hop",
        x_hop="1",
        proxy_authorization="Basic x",
        traceparent="00-a-b-01",
    )
    seen = replica.posts[0]
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    names = {name for name, _ in seen.headers}
    assert not names & {"authorization", "x-api-key", "forwarded", "x-zerotide-replica", "x-hop", "proxy-authorization"}
    assert seen.get("host") == "m.demo"
    assert seen.get("accept-encoding") == "identity"
    assert seen.get("traceparent") == "00-a-b-01"
    assert [value for name, value in seen.headers if name == "connection"] == []


async def test_the_probes_connection_serves_the_first_request(stack: Stack, replica: Replica) -> None:
    """One connection carries the probe and all requests that follow one another."""
    await stack.awake(replica)
    for _ in range(3):
        assert (await stack.post()).status == 200
    assert replica.connections == 1


async def test_usage_is_recorded(stack: Stack, replica: Replica) -> None:
    """An intent is in the log before the replica sees the request, a settlement with the tokens after it."""
    seen_at_replica: list[int] = []

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        seen_at_replica.append(len(stack.records()[0]))
        send_json(writer, {"usage": {"prompt_tokens": 3, "completion_tokens": 4}})

    await stack.awake(replica)
    replica.behave = behave
    answer = await stack.post(x_request_id="chosen-by-client", idempotency_key="i-1")
    (intent,), (settlement,) = stack.records()
    assert seen_at_replica == [1]
    assert intent.request_id != "chosen-by-client"
    assert settlement.key[:2] == intent.key[:2] == (intent.request_id, 1)
    assert (intent.consumer, intent.key_id, intent.namespace, intent.endpoint) == ("demo/team-a", "k", "demo", "m")
    assert (intent.pod_uid, intent.idempotency_key, intent.cold) == ("pod-m-1", "i-1", False)
    assert settlement.tokens == Tokens(input=3, output=4)
    assert (settlement.outcome, settlement.status) == (Outcome.COMPLETED, 200)
    assert settlement.response_bytes == len(answer.body)
    assert intent.accepted_us <= intent.forwarded_us <= (settlement.first_byte_us or 0) <= settlement.ended_us


async def test_usage_of_a_stream_is_asked_for_and_taken_out(stack: Stack, replica: Replica) -> None:
    """A client that did not ask for usage gets none; we know it all the same."""
    await stack.awake(replica)
    plain = await stack.post(body={"model": "m", "messages": [], "stream": True})
    asked = await stack.post(
        body={"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    )
    assert b'"usage"' not in plain.body
    assert plain.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage": {' in asked.body
    assert [settlement.tokens for settlement in stack.records()[1]] == [Tokens(input=5, output=7)] * 2
    assert [post.json["stream_options"] for post in replica.posts] == [{"include_usage": True}] * 2


async def test_tgi_tokens_are_read(stack: Stack, replica: Replica) -> None:
    """TGI tells its tokens in headers, and at the end of streams."""
    await stack.awake(replica)
    for path in ("/endpoints/demo/m/generate", "/endpoints/demo/m/generate_stream", "/endpoints/demo/m"):
        assert (await stack.post(path, {"inputs": "x"})).status == 200
    assert [settlement.tokens for settlement in stack.records()[1]] == [Tokens(input=5, output=7)] * 3
    assert [post.target for post in replica.posts] == ["/generate", "/generate_stream", "/"]
    assert [intent.stream for intent in stack.records()[0]] == [False, True, False]


async def test_an_alias_becomes_the_name_that_the_engine_knows(stack: Stack, replica: Replica) -> None:
    """The replica is asked for its own model, whatever name the client used; nothing else changes."""
    await stack.awake(replica, model={"uri": "image:///m", "name": "real", "aliases": ["org/Alias"]})
    names = ("real", "org/Alias", "demo/m")
    content = {"messages": [{"content": "ü \\u00fc"}], "seed": 12345678901234567890}
    for name in names:
        body = json.dumps({**content, "model": name})
        assert (await stack.post(body=body.encode())).status == 200
    assert {post.body for post in replica.posts} == {json.dumps({**content, "model": "real"}).encode()}


async def test_events_pass_as_they_come(stack: Stack, replica: Replica) -> None:
    """An event reaches the client while the replica still works on the next one."""
    proceed = asyncio.Event()

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode() + b"9\r\ndata: 1\n\n\r\n")
        await writer.drain()
        await proceed.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    await stack.awake(replica)
    replica.behave = behave
    headers = {"authorization": f"Bearer {stack.keys['k']}"}
    body = {"model": "m", "stream": True}
    async with stack.session.post(stack.url + "/v1/chat/completions", json=body, headers=headers) as response:
        assert await response.content.readany() == b"data: 1\n\n"
        proceed.set()
        assert await response.content.read() == b"data: 2\n\n"


async def test_statuses_and_headers_of_a_replica_pass(stack: Stack, replica: Replica) -> None:
    """An engine's own error is the client's to see; what only concerns one connection is not."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        body = b'{"error":{"message":"no"}}'
        send(
            writer,
            422,
            body,
            content_type="application/json",
            keep_alive="timeout=5",
            x_zerotide_error="forged",
            x_own="1",
        )

    await stack.awake(replica)
    replica.behave = behave
    answer = await stack.post()
    assert (answer.status, answer.json) == (422, {"error": {"message": "no"}})
    assert answer.headers["x-own"] == "1"
    assert "x-zerotide-error" not in answer.headers
    assert "keep-alive" not in answer.headers


async def test_a_client_that_leaves_stops_the_replica(stack: Stack, replica: Replica) -> None:
    """The connection to the replica is dropped, so that the engine stops; what was used is settled."""
    replica.hold = asyncio.Event()
    await stack.awake(replica)
    task = asyncio.create_task(stack.post())
    await until(lambda: replica.in_flight == 1)
    task.cancel()
    await until(lambda: stack.records()[1])
    assert stack.records()[1][0].outcome is Outcome.CLIENT_GONE
    endpoint = stack.registry.endpoints[Name("demo", "m")]
    demand = stack.tracker.demand("demo/m")
    assert demand is not None
    assert (demand.in_flight, demand.held, demand.arrivals) == (0, 0, 1)
    assert endpoint.gate.held == 0


async def test_a_slow_client_holds_its_replica_back(stack: Stack, replica: Replica) -> None:
    """What a client does not read is not read from the replica either."""
    sent = 0

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(2000):
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    await stack.awake(replica)
    replica.behave = behave
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port, limit=65536)
    body = b'{"model":"m"}'
    lines = ["POST /v1/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {stack.keys['k']}"]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    writer.write(head.encode() + body)
    await reader.readuntil(b"\r\n\r\n")
    stood, before = 0, -1
    while stood < 10:  # the replica stands still once every buffer on the way is full
        stood, before = (stood + 1, sent) if sent == before else (0, sent)
        await asyncio.sleep(0.05)
    assert 0 < sent < 64 * 1024 * 1024
    while sent < 2000 * 65536:
        assert await reader.read(1 << 20)
    writer.close()


async def test_extra_paths_and_other_bodies(stack: Stack, replica: Replica) -> None:
    """Paths that the endpoint adds are forwarded; a body that is not JSON needs the endpoint named otherwise."""
    await stack.awake(replica, request={"extraPaths": ["/v1/images/generations"]})
    assert (await stack.post("/v1/images/generations", {"model": "m"})).status == 200
    assert (await stack.post("/v1/images/edits", {"model": "m"})).code == "route_not_found"
    audio = await stack.post("/endpoints/demo/m/v1/audio/transcriptions", b"RIFF", content_type="audio/wav")
    assert audio.json == {"text": TEXT}
    assert (await stack.post("/v1/audio/transcriptions", b"RIFF")).code == "invalid_request"


async def test_least_busy_replica_is_chosen(stack: Stack, replica: Replica) -> None:
    """Two requests at once go to two replicas."""
    async with Replica() as other:
        replica.hold = other.hold = asyncio.Event()
        await stack.awake(replica)
        stack.pod(other.port, name="m-2")
        endpoint = stack.endpoint()
        await until(lambda: all(each.ready_us for each in endpoint.replicas.values()))
        tasks = [asyncio.create_task(stack.post()) for _ in range(4)]
        await until(lambda: replica.in_flight + other.in_flight == 4)
        assert (replica.in_flight, other.in_flight) == (2, 2)
        replica.hold.set()
        assert {(await task).status for task in tasks} == {200}
