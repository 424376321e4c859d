"""Requests that another endpoint serves: while their own is cold, or for a budget's sake; once, and never further."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.activator.holding import held
from tests.activator.replica import Events, Received, Replica, send_json
from tests.activator.stack import Answer, Stack, until
from tests.activator.test_cold import accepting
from zerotide.activator.admission.naming import Name
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.api.usage import Intent

ELSEWHERE = {"whileCold": "Fallback", "fallback": {"endpointRef": {"name": "small"}}}
ONLY_FOR_BUDGETS = {"fallback": {"endpointRef": {"name": "small"}}}
SMALL = {"desiredReplicas": 1, "state": "Awake"}


@pytest.fixture
async def other() -> AsyncIterator[Replica]:
    """Serve the fallback's model."""
    async with Replica() as running:
        yield running


async def small(stack: Stack, replica: Replica, **spec: Any) -> Endpoint:
    """Have a fallback that is awake."""
    endpoint = stack.endpoint("small", status=SMALL, model={"uri": "image:///s", "name": "tiny"}, **spec)
    stack.pod(replica.port, "small", name="small-1")
    await until(lambda: not endpoint.gate.cold)
    return endpoint


def cold(stack: Stack, **hold: Any) -> Endpoint:
    """Have an endpoint that sleeps, with a fallback, and a key to it."""
    endpoint = stack.endpoint(hold={**ELSEWHERE, **hold})
    stack.key()
    return endpoint


def told(answer: Answer) -> tuple[str | None, str | None]:
    """Return what an answer's headers say of who served it, and why."""
    return answer.headers.get("x-zerotide-fallback"), answer.headers.get("x-zerotide-fallback-cause")


def idle(stack: Stack, *names: str) -> bool:
    """Tell whether nothing is counted as held or in flight any more."""
    demands = [demand for name in names if (demand := stack.tracker.demand(f"demo/{name}")) is not None]
    return all(demand.held == demand.in_flight == 0 for demand in demands) and stack.service.gateway.active == 0


async def test_a_fallback_that_is_asked_for_its_model_has_no_adapter_on_its_bill(stack: Stack, other: Replica) -> None:
    """Although it has one of that name."""
    named = {"adapters": [{"name": "law", "uri": "image:///a"}]}
    model = {"uri": "image:///s", "name": "tiny", **named}
    endpoint = stack.endpoint("small", status=SMALL, model=model)
    stack.pod(other.port, "small", name="small-1")
    await until(lambda: not endpoint.gate.cold)
    stack.endpoint(hold=ELSEWHERE, model={"uri": "image:///m", "name": "m", **named})
    stack.key()
    answer = await stack.post(body={"model": "m:law", "messages": []})
    assert (answer.status, told(answer)) == (200, ("small", "cold"))
    (sent,) = other.posts
    (record,) = stack.records()[0]
    assert (sent.json["model"], record.model, record.adapter) == ("tiny", "tiny", "")


async def test_a_cold_endpoint_is_woken_and_its_fallback_serves(stack: Stack, replica: Replica, other: Replica) -> None:
    """By its own model's name, billed to it; once the first is warm, that serves."""
    fallback = await small(stack, other)
    first = cold(stack)
    answer = await stack.post(body={"model": "m", "messages": [], "seed": 7})
    assert (answer.status, told(answer)) == (200, ("small", "cold"))
    assert answer.headers["x-zerotide-cold-start"] == "false"
    (sent,) = other.posts
    assert sent.json == {"model": "tiny", "messages": [], "seed": 7} and sent.get("host") == "small.demo"
    await until(lambda: stack.api.applied)
    (wish,) = stack.api.applied
    assert wish["metadata"]["name"] == "m"
    intents, settlements = stack.records()
    assert [record.endpoint_uid for record in intents] == [fallback.profile.uid]
    assert len(settlements) == 1
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and (demand.arrivals, demand.held) == (1, 0)
    stack.pod(replica.port)
    await until(lambda: not first.gate.cold)
    answer = await stack.post()
    assert (answer.status, told(answer)) == (200, (None, None))
    assert len(replica.posts) == 1 and len(other.posts) == 1
    assert idle(stack, "m", "small")


async def test_streams_and_bodies_that_are_none_of_json(stack: Stack, other: Replica) -> None:
    """A stream is passed on without the usage that was asked for; a recording goes as it is."""

    async def stream(request: Received, writer: asyncio.StreamWriter) -> None:
        events = Events(writer)
        await events.event({"choices": [{"index": 0, "delta": {"content": "Paris"}}], "usage": None})
        await events.event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}})
        await events.event("[DONE]")
        events.end()

    await small(stack, other)
    cold(stack)
    other.behave = stream
    answer = await stack.post(body={"model": "m", "messages": [], "stream": True})
    assert (answer.status, told(answer)) == (200, ("small", "cold"))
    assert b"Paris" in answer.body and b"total_tokens" not in answer.body and b"[DONE]" in answer.body
    assert other.posts[0].json["stream_options"] == {"include_usage": True} and other.posts[0].json["model"] == "tiny"

    async def heard(request: Received, writer: asyncio.StreamWriter) -> None:
        send_json(writer, {"text": "hello"})

    other.behave = heard
    path = "/endpoints/demo/m/v1/audio/transcriptions"
    answer = await stack.post(path, b"RIFF", content_type="multipart/form-data; boundary=x")
    assert (answer.status, told(answer), other.posts[1].body) == (200, ("small", "cold"), b"RIFF")


async def test_a_fallback_that_is_cold_itself_is_not_woken(stack: Stack, replica: Replica) -> None:
    """Nor is its own fallback followed, were it the first: who asks waits, as without any."""
    stack.endpoint("small", hold={**ELSEWHERE, "fallback": {"endpointRef": {"name": "m"}}})
    cold(stack)
    stack.key()
    asking = asyncio.create_task(stack.post())
    await until(lambda: stack.registry.endpoints[Name("demo", "m")].gate.held == 1)
    await until(lambda: stack.api.applied)
    stack.pod(replica.port)
    answer = await asking
    assert (answer.status, told(answer)) == (200, (None, None))
    assert {wish["metadata"]["name"] for wish in stack.api.applied} == {"m"}
    assert answer.headers["x-zerotide-cold-start"] == "true"


@pytest.mark.parametrize(
    "spoilt", ["missing", "suspended", "failed", "another path", "larger bodies", "another protocol", "no room"]
)
async def test_where_it_cannot_serve_the_request_waits_for_its_own(
    stack: Stack, replica: Replica, other: Replica, spoilt: str
) -> None:
    filling: asyncio.Task[Answer] | None = None
    path, body = "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x" * 2000}]}
    if spoilt == "suspended":
        await small(stack, other, suspend=True)
    elif spoilt == "failed":
        await small(stack, other)
        stack.endpoint("small", status=accepting("CrashLooping"))
    elif spoilt == "another path":
        await small(stack, other)
        path = "/endpoints/demo/m/v1/own"
    elif spoilt == "larger bodies":
        await small(stack, other, request={"maxBodyBytes": "1Ki"})
    elif spoilt == "no room":
        limits = {"concurrency": {"target": 1, "limit": 1}}
        await small(stack, other, scaling=limits, hold={"busyTimeout": "0s"})
        other.hold = asyncio.Event()
        filling = asyncio.create_task(stack.post(body={"model": "tiny", "messages": []}))
    elif spoilt == "another protocol":
        spec = {"engine": "custom", "image": "x", "protocol": "GRPC"}
        stack.endpoint("small", status=SMALL, runtime=spec, request={"extraPaths": ["/a.B/C"]})
    stack.endpoint(hold=ELSEWHERE, request={"extraPaths": ["/v1/own"]})
    stack.key()
    if spoilt == "no room":
        await until(lambda: other.in_flight == 1)
    asking = asyncio.create_task(stack.post(path, body))
    await until(lambda: stack.registry.endpoints[Name("demo", "m")].gate.held == 1)
    stack.pod(replica.port)
    answer = await asking
    assert (answer.status, told(answer)) == (200, (None, None)) and len(replica.posts) == 1
    if filling is not None:
        assert other.hold is not None
        other.hold.set()
        assert (await filling).status == 200
    assert len(other.posts) == (1 if spoilt == "no room" else 0)
    await until(lambda: idle(stack, "m", "small"))


async def test_a_consumer_s_limit_there_sends_nobody_away(stack: Stack, replica: Replica, other: Replica) -> None:
    """What is counted there is given back, and the request waits for its own endpoint."""
    await small(stack, other, access={"maxInFlightPerConsumer": 1})
    other.hold = asyncio.Event()
    cold(stack)
    first = asyncio.create_task(stack.post())
    await until(lambda: other.in_flight == 1)
    second = asyncio.create_task(stack.post())
    await until(lambda: stack.registry.endpoints[Name("demo", "m")].gate.held == 1)
    other.hold.set()
    assert told(await first) == ("small", "cold")
    assert told(await stack.post()) == ("small", "cold"), "its place there is free again"
    stack.pod(replica.port)
    assert told(await second) == (None, None)
    await until(lambda: idle(stack, "m", "small"))


async def test_what_was_sent_is_not_sent_again_elsewhere(stack: Stack, other: Replica) -> None:
    """An answer of the fallback is the answer, whatever it says; one that never comes is its own error."""

    async def refuses(request: Received, writer: asyncio.StreamWriter) -> None:
        send_json(writer, {"error": {"message": "too long"}}, status=400)

    async def cuts(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    await small(stack, other)
    cold(stack)
    other.behave = refuses
    answer = await stack.post()
    assert (answer.status, told(answer)) == (400, ("small", "cold"))
    other.behave = cuts
    answer = await stack.post()
    assert (answer.status, answer.code) == (502, "upstream_lost")


async def test_a_client_that_leaves_is_counted_nowhere(stack: Stack, other: Replica) -> None:
    await small(stack, other)
    cold(stack)
    other.hold = asyncio.Event()
    asking = asyncio.create_task(stack.post())
    await until(lambda: other.in_flight == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: idle(stack, "m", "small"))
    other.hold.set()
    other.hold = None
    assert told(await stack.post()) == ("small", "cold")


async def test_batches_wake_nothing_by_going_elsewhere(stack: Stack, other: Replica) -> None:
    await small(stack, other)
    cold(stack)
    answer = await stack.post(x_zerotide_priority="batch")
    assert told(answer) == ("small", "cold")
    assert stack.tracker.demand("demo/m") is None and stack.api.applied == []


async def test_an_endpoint_that_fails_to_start_is_replaced_and_a_suspended_one_is_not(
    stack: Stack, other: Replica
) -> None:
    await small(stack, other)
    cold(stack)
    stack.endpoint(status=accepting("ImagePullFailed"))
    assert told(await stack.post()) == ("small", "cold")
    assert stack.api.applied == []
    stack.endpoint(suspend=True, hold=ELSEWHERE)
    answer = await stack.post()
    assert (answer.code, told(answer)) == ("suspended", (None, None))


async def test_who_only_names_a_fallback_waits(stack: Stack, replica: Replica, other: Replica) -> None:
    """whileCold: Hold is what it says."""
    await small(stack, other)
    endpoint = stack.endpoint(hold=ONLY_FOR_BUDGETS)
    stack.key()
    asking = asyncio.create_task(stack.post())
    await until(lambda: endpoint.gate.held == 1)
    stack.pod(replica.port)
    assert told(await asking) == (None, None) and other.posts == []


async def test_a_budget_sends_requests_elsewhere_and_wakes_nothing(
    stack: Stack, replica: Replica, other: Replica
) -> None:
    """Warm or cold; it binds the fallback as well, which may serve all the same as long as it is awake."""
    await small(stack, other)
    endpoint = stack.endpoint(hold=ONLY_FOR_BUDGETS)
    stack.key()
    stack.budget("Fallback")
    assert told(await stack.post()) == ("small", "budget")
    assert stack.api.applied == [] and stack.tracker.demand("demo/m") is None
    stack.pod(replica.port)
    await until(lambda: not endpoint.gate.cold)
    assert told(await stack.post()) == ("small", "budget")
    assert replica.posts == []
    stack.budget(None)
    assert told(await stack.post()) == (None, None)


async def test_without_a_fallback_that_serves_a_budget_refuses(stack: Stack, replica: Replica, other: Replica) -> None:
    """With its own error, which names it; a fallback that it binds is not woken."""
    await stack.awake(replica)
    stack.budget("Fallback")
    refused = await stack.post()
    assert (refused.status, refused.code) == (402, "budget_exhausted")
    assert "only fallbacks serve, and this endpoint has none that can" in refused.json["error"]["message"]
    stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, hold=ONLY_FOR_BUDGETS)
    assert (await stack.post()).code == "budget_exhausted", "there is none of that name"
    stack.endpoint("small")
    assert (await stack.post()).code == "budget_exhausted" and stack.api.applied == []
    await small(stack, other)
    assert told(await stack.post()) == ("small", "budget")
    stack.budget("Block", "hard")
    assert (await stack.post()).code == "budget_exhausted"
    assert len(other.posts) == 1 and idle(stack, "m", "small")


async def test_a_fallback_that_no_budget_binds_is_woken_for_it(stack: Stack, replica: Replica, other: Replica) -> None:
    await stack.awake(replica, hold=ONLY_FOR_BUDGETS)
    fallback = stack.endpoint("small")
    stack.budget("Fallback", endpoints=["m"])
    asking = asyncio.create_task(stack.post())
    await until(lambda: fallback.gate.held == 1)
    await until(lambda: stack.api.applied)
    stack.pod(other.port, "small", name="small-1")
    answer = await asking
    assert (answer.status, told(answer), answer.headers["x-zerotide-cold-start"]) == (200, ("small", "budget"), "true")
    assert {wish["metadata"]["name"] for wish in stack.api.applied} == {"small"} and replica.posts == []


async def test_denied_wakes_may_be_served_elsewhere(stack: Stack, other: Replica) -> None:
    """The first is not woken for it; where nobody can serve it is refused, as it would be."""
    fallback = await small(stack, other)
    cold(stack)
    stack.budget("DenyWake")
    assert told(await stack.post()) == ("small", "cold")
    assert stack.api.applied == []
    stack.delete_pod("small-1", endpoint="small")
    await until(lambda: fallback.gate.cold)
    assert (await stack.post()).code == "budget_exhausted"


async def test_it_is_counted_by_cause(stack: Stack, other: Replica) -> None:
    await small(stack, other)
    cold(stack)
    await stack.post()
    page, _ = stack.service.metrics.render()
    where = 'inference_endpoint="m",namespace="demo"'
    assert f'zerotide_fallbacks_total{{cause="cold",{where}}} 1'.encode() in page
    assert b'zerotide_requests_total{code="200",cold="false",inference_endpoint="small",namespace="demo"} 1' in page


async def test_those_who_wait_already_stay(stack: Stack, replica: Replica, other: Replica) -> None:
    """A fallback that comes later takes none of them."""
    cold(stack)
    (asking,) = await held(stack, 1)
    await small(stack, other)
    stack.pod(replica.port)
    assert told(await asking) == (None, None)
    assert other.posts == [] and json.loads(replica.posts[0].body)["model"] == "m"
    assert isinstance(stack.records()[0][0], Intent)
