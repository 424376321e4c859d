"""Adapters behind the gateway: called as model:adapter by every name of the model, and unknown ones are no model."""

from __future__ import annotations

import json

from tests.activator.replica import Replica
from tests.activator.stack import Stack

MODEL = {
    "uri": "image:///m",
    "name": "real",
    "aliases": ["org/Alias"],
    "adapters": [{"name": "support", "uri": "image:///a"}, {"name": "law", "uri": "image:///b"}],
}


async def test_every_name_of_the_model_calls_them(stack: Stack, replica: Replica) -> None:
    """The engine is asked for its own name of the model with the adapter; nothing else changes."""
    await stack.awake(replica, model=MODEL)
    for name in ("real:support", "org/Alias:support", "demo/m:support"):
        for path in ("/v1/chat/completions", "/endpoints/demo/m/v1/chat/completions"):
            # Twice, because what is known of an earlier request must not lose the adapter.
            for _ in range(2):
                assert (await stack.post(path, {"model": name, "messages": []})).status == 200
    assert {json.loads(post.body)["model"] for post in replica.posts} == {"real:support"}
    for name, called in (("real", "real"), ("org/Alias:law", "real:law"), ("demo/m", "real")):
        assert (await stack.post(body={"model": name, "messages": []})).status == 200
        assert replica.posts[-1].json["model"] == called


async def test_usage_records_tell_them_apart(stack: Stack, replica: Replica) -> None:
    """By whatever name of the model, quickly and with care, and by the parameter that TGI has for them."""
    await stack.awake(replica, model=MODEL)
    for name in ("real:support", "org/Alias:law", "real", "demo/m:law"):
        assert (await stack.post(body={"model": name, "messages": []})).status == 200
    assert (await stack.post(body=b'{"model": "re\\u0061l:law", "messages": []}')).status == 200
    there = "/endpoints/demo/m/generate"
    for parameters in ({"adapter_id": "support"}, {"adapter_id": "rude"}, {"adapter_id": 7}, {}, None):
        assert (await stack.post(there, {"inputs": "x", "parameters": parameters})).status == 200
    assert (await stack.post(there, b'{"inputs": "\\u0061", "parameters": {"adapter_id": "law"}}')).status == 200
    intents, _ = stack.records()
    assert [each.model for each in intents] == ["real"] * 11
    assert [each.adapter for each in intents] == ["support", "law", "", "law", "law", "support", *[""] * 4, "law"]


async def test_unknown_ones_are_no_model(stack: Stack, replica: Replica) -> None:
    """Neither wakes anything nor reaches a replica."""
    await stack.awake(replica, model=MODEL)
    stack.endpoint("other")
    for name in ("real:rude", "real:", ":support", "other:support", "real:support:law", "support"):
        answer = await stack.post(body={"model": name, "messages": []})
        assert (answer.status, answer.code) == (404, "model_not_found"), name
        named = await stack.post("/endpoints/demo/m/v1/chat/completions", {"model": name, "messages": []})
        assert (named.status, named.code) == (400, "endpoint_mismatch"), name
    assert replica.posts == []


async def test_they_are_listed_asleep_too(stack: Stack) -> None:
    stack.endpoint(model=MODEL)
    stack.key()
    listed = await stack.request("GET", "/v1/models")
    assert [card["id"] for card in listed.json["data"]] == ["real", "org/Alias", "real:support", "real:law"]
    assert (await stack.request("GET", "/v1/models/real:law")).json["id"] == "real:law"
    assert (await stack.request("GET", "/v1/models/real:rude")).status == 404
    assert stack.api.applied == []
