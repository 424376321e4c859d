"""Replicas that are to generate a token before they get a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.activator import replica as replicas
from tests.activator.holding import held
from tests.activator.replica import Received, Replica, send, send_json
from tests.activator.stack import Stack, until
from zerotide.activator.endpoints import dialler
from zerotide.activator.endpoints.pods import candidate_of, trim
from zerotide.api.names import CONDITION_TOKEN
from zerotide.kube import Change

GATE = [{"conditionType": CONDITION_TOKEN}]
TOKEN = {"readiness": {"type": "Token"}}


def gated(stack: Stack, port: int) -> None:
    """Create a pod with the gate, as the watch keeps it."""
    probe = {"httpGet": {"path": "/health", "port": port}}
    labels = {"zerotide.dev/endpoint": "m"}
    pod = {
        "metadata": {"namespace": "demo", "name": "m-1", "uid": "pod-m-1", "labels": labels},
        "spec": {"containers": [{"name": "model", "readinessProbe": probe}], "readinessGates": GATE},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }
    stack.registry.pod_changed(Change("set", trim(pod)))


async def test_a_request_waits_for_the_first_token(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is healthy and answers without a token gets nothing; the engine is asked as it wants it."""
    monkeypatch.setattr(dialler, "TOKEN_PAUSE", 0.02)
    works = False

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target != "/generate" or works:
            await replicas.answer(request, writer)
        elif len(replica.posts) == 1:
            send(writer, 503, b"loading")
        else:
            send_json(writer, {"generated_text": ""})

    async with Replica(behave=behave) as replica:
        endpoint = stack.endpoint(runtime={"engine": "tgi", **TOKEN}, status={"desiredReplicas": 1})
        stack.key()
        gated(stack, replica.port)
        (asked,) = await held(stack, 1)
        await until(lambda: len(replica.posts) >= 3)
        assert {post.target for post in replica.posts} == {"/generate"} and endpoint.gate.cold
        works = True
        assert (await asked).status == 200
        assert replica.posts[0].json == {"inputs": "a", "parameters": {"max_new_tokens": 1, "details": True}}
        assert replica.posts[0].get("content-type") == "application/json"
        assert replica.posts[-1].target == "/v1/chat/completions"


async def test_a_probe_that_fails_is_asked_for_no_token(stack: Stack) -> None:
    """Its health comes first."""
    async with Replica(ready=False) as replica:
        endpoint = stack.endpoint(runtime=TOKEN, status={"desiredReplicas": 1})
        gated(stack, replica.port)
        await until(lambda: len(replica.received) > 3)
        assert endpoint.gate.cold and not replica.posts


async def test_pods_without_the_gate_are_asked_for_none(stack: Stack) -> None:
    """Such as those of the spec before, while a new one is rolled out."""
    async with Replica() as replica:
        endpoint = stack.endpoint(runtime=TOKEN, status={"desiredReplicas": 1})
        stack.pod(replica.port)
        await until(lambda: not endpoint.gate.cold)
        assert not replica.posts


def test_what_is_kept_of_a_pod_says_whether_it_has_the_gate() -> None:
    """Others' gates are none of ours."""
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"readinessGates": GATE}, "status": {"podIP": "10.0.0.1"}}
    found = candidate_of(trim(pod))
    assert found is not None and found.token
    pod["spec"]["readinessGates"] = [{"conditionType": "example.com/other"}]
    found = candidate_of(trim(pod))
    assert found is not None and not found.token
