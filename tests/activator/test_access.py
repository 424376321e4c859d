"""Who may call what, what is answered without a replica, and that strangers wake nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack
from zerotide.api.apikey import format_key
from zerotide.kube import Change

UNKNOWN = format_key("k", bytes(32))


@pytest.fixture
def asleep(stack: Stack) -> Stack:
    """Have an endpoint that sleeps, and nobody who waits long for it."""
    stack.endpoint()
    stack.key()
    return stack


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "Bearer ",
        "Bearer sk-nonsense",
        f"Bearer {UNKNOWN}",
        f"bearer {UNKNOWN[:-1]}x",
        "Basic dXNlcjpwYXNz",
        "Bearer \xff",
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/endpoints/demo/m/generate", "/endpoints/demo/none/generate"]
)
async def test_strangers_wake_nothing(asleep: Stack, credential: str, path: str) -> None:
    """They learn nothing either: an endpoint that exists and one that does not look the same."""
    headers = {"authorization": credential} if credential else {}
    answer = await asleep.post(path, key="", **headers)
    assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert asleep.api.applied == []
    assert asleep.tracker.demand("demo/m") is None


@pytest.mark.parametrize("spec", [{"suspend": True}, {"expirationTime": "2020-01-01T00:00:00Z"}])
async def test_a_key_that_is_no_good(asleep: Stack, spec: dict[str, Any]) -> None:
    """Suspended and expired keys open nothing."""
    asleep.key("bad", **spec)
    assert (await asleep.post(key="bad")).code == "invalid_api_key"
    assert asleep.api.applied == []


async def test_a_revoked_key_opens_nothing(asleep: Stack) -> None:
    """From the moment at which its deletion is seen; one that begins to be deleted is dead as well."""
    asleep.revoke("k")
    assert (await asleep.post()).code == "invalid_api_key"
    asleep.key("other")
    text = asleep.keys["other"]
    found = asleep.registry.keyring.find(text, 0)
    assert found is not None
    asleep.registry.key_changed(
        Change("set", {"metadata": {"namespace": "demo", "name": "other"}, "spec": {"digest": "broken"}})
    )
    assert asleep.registry.keyring.find(text, 0) is None


async def test_two_keys_of_one_consumer(stack: Stack, replica: Replica) -> None:
    """Rotation is two objects: both open the endpoint until one is deleted."""
    await stack.awake(replica)
    stack.key("new")
    assert [(await stack.post(key=key)).status for key in ("k", "new")] == [200, 200]
    stack.revoke("k")
    assert [(await stack.post(key=key)).status for key in ("k", "new")] == [401, 200]


async def test_one_name_in_two_namespaces(stack: Stack, replica: Replica) -> None:
    """Keys of one name in two namespaces open each their own."""
    await stack.awake(replica)
    mine = stack.keys["k"]
    stack.endpoint(namespace="other")
    stack.key(namespace="other")
    theirs = stack.keys["k"]
    path = "/endpoints/demo/m/v1/chat/completions"
    assert (await stack.post(path, key="", authorization=f"Bearer {mine}")).status == 200
    refused = await stack.post(path, key="", authorization=f"Bearer {theirs}")
    assert (refused.status, refused.code) == (403, "forbidden")
    nowhere = await stack.post("/endpoints/nowhere/x", {"inputs": ""}, key="", authorization=f"Bearer {theirs}")
    assert (nowhere.status, nowhere.code) == (403, "forbidden")


async def test_a_key_for_some_endpoints(asleep: Stack) -> None:
    """A key that lists endpoints opens no other; by model the others do not exist."""
    asleep.endpoint("b")
    asleep.key("only-b", endpoints=["b"])
    by_path = await asleep.post("/endpoints/demo/m/v1/chat/completions", key="only-b")
    assert (by_path.status, by_path.code) == (403, "forbidden")
    by_model = await asleep.post(key="only-b")
    assert (by_model.status, by_model.code) == (404, "model_not_found")
    missing = await asleep.post("/endpoints/demo/none/v1/chat/completions", key="only-b")
    assert (missing.status, missing.code) == (404, "endpoint_not_found")
    assert asleep.api.applied == []


async def test_open_endpoints(stack: Stack, replica: Replica) -> None:
    """Anyone may call them by host or path, whatever key their client sends; never by model alone."""
    await stack.awake(replica, access={"auth": "Open"})
    assert (await stack.post("/endpoints/demo/m/v1/chat/completions", key="")).status == 200
    assert (
        await stack.post("/endpoints/demo/m/v1/chat/completions", key="", authorization="Bearer EMPTY")
    ).status == 200
    assert (await stack.post(key="", host="m.demo.svc.cluster.local")).status == 200
    assert (await stack.post(key="", x_zerotide_endpoint="demo/m")).status == 200
    assert (await stack.post(key="")).code == "invalid_api_key"
    assert {intent.consumer for intent in stack.records()[0]} == {"demo/m"}
    assert {intent.key_id for intent in stack.records()[0]} == {""}


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/v1/chat/completions", {"host": "m.demo"}, ""),
        ("/v1/chat/completions", {"host": "M.Demo.svc:8080"}, ""),
        ("/v1/chat/completions", {"host": "m"}, ""),
        ("/v1/chat/completions", {"host": "models.example.com"}, ""),
        ("/v1/chat/completions", {"host": "zerotide-gateway.zerotide-system.svc.cluster.local"}, ""),
        ("/endpoints/demo/m/v1/chat/completions", {"host": "zerotide-gateway.zerotide-system.svc:80"}, ""),
        ("/v1/chat/completions", {"host": "zerotide-gateway.demo.svc"}, "endpoint_not_found"),
        ("/v1/chat/completions", {"host": "none.demo.svc"}, "endpoint_not_found"),
        ("/endpoints/demo/m/v1/chat/completions", {"host": "m.demo.svc"}, ""),
        ("/endpoints/demo/m/v1/chat/completions", {"host": "b.demo.svc"}, "endpoint_mismatch"),
        ("/endpoints/demo/m/v1/chat/completions", {"x_zerotide_endpoint": "demo/b"}, "endpoint_mismatch"),
        ("/endpoints/demo/b/v1/chat/completions", {}, "endpoint_mismatch"),
        ("/v1/chat/completions", {"x_zerotide_endpoint": "demo"}, "invalid_request"),
        ("/endpoints/demo", {}, "endpoint_not_found"),
        ("/v1/files", {}, "route_not_found"),
        ("/v1/chat/completions/", {}, "route_not_found"),
        ("/endpoints/demo/m/metrics", {}, "route_not_found"),
        ("/endpoints/demo/m/v1/../admin", {}, "route_not_found"),
        ("/v1/%63hat/completions", {}, "route_not_found"),
        ("/v1/chat/completions", {"content_encoding": "gzip"}, "invalid_request"),
    ],
)
async def test_names_must_agree(stack: Stack, replica: Replica, path: str, headers: dict[str, str], code: str) -> None:
    """Host, path, header and model name one endpoint, and the route is one of those that are served."""
    await stack.awake(replica)
    stack.endpoint("b", status={"desiredReplicas": 1})
    answer = await stack.post(path, **headers)
    assert answer.code == code
    assert answer.status == (200 if not code else answer.status)
    assert len(replica.posts) == (0 if code else 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_request"),
        (b"{", "invalid_request"),
        (b"[]", "invalid_request"),
        (b'{"model":"m"} x', "invalid_request"),
        (b'{"model":"m","model":"b"}', "invalid_request"),
        (b'{"model":1}', "invalid_request"),
        (b'{"model":"m","x":NaN}', "invalid_request"),
        (b'{"model":"\xff"}', "invalid_request"),
        (b'{"x":' + b"[" * 200_000, "invalid_request"),
        (b'{"messages":[]}', "invalid_request"),
        (b'{"model":"none"}', "model_not_found"),
        (b'{"model":"other/m"}', "model_not_found"),
        (b'{"model":""}', "invalid_request"),
    ],
)
async def test_bodies_that_make_no_sense(asleep: Stack, body: bytes, code: str) -> None:
    """They are refused here; nothing is woken for them."""
    answer = await asleep.post(body=body)
    assert answer.code == code
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert asleep.api.applied == []


async def test_errors_on_tgi_routes(asleep: Stack) -> None:
    """TGI's clients get TGI's shape."""
    answer = await asleep.post("/endpoints/demo/m/generate", b"{")
    assert (answer.status, answer.json["error_type"]) == (400, "validation")
    answer = await asleep.post("/endpoints/demo/m/generate", key="")
    assert (answer.status, answer.json["error_type"]) == (401, "invalid_api_key")


async def test_one_model_name_twice(stack: Stack) -> None:
    """The older endpoint keeps it; where neither is older, the client must say which."""
    for name in ("a", "b"):
        stack.endpoint(name, model={"uri": "image:///m", "name": "same"}, hold={"whileCold": "Reject"})
    stack.key()
    assert (await stack.post(body={"model": "same"})).code == "ambiguous_model"
    obj = dict(stack.api.objects[next(name for name in stack.api.objects if name.name == "a")])
    obj["metadata"] = {**obj["metadata"], "creationTimestamp": "2025-01-01T00:00:00Z"}
    stack.registry.endpoint_changed(Change("set", obj))
    assert (await stack.post(body={"model": "same"}, prefer="wait=0")).code == "endpoint_cold"
    assert stack.tracker.demand("demo/a") is not None
    assert stack.tracker.demand("demo/b") is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/health", 200),
        ("GET", "/ping", 200),
        ("GET", "/endpoints/demo/m/health", 200),
        ("GET", "/info", 200),
        ("GET", "/endpoints/demo/m/info", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/m", 200),
        ("GET", "/v1/models/demo%2Fm", 200),
        ("GET", "/v1/models/none", 404),
        ("HEAD", "/v1/chat/completions", 200),
        ("OPTIONS", "/v1/chat/completions", 204),
        ("GET", "/metrics", 404),
        ("GET", "/v1/chat/completions", 404),
        ("DELETE", "/v1/models/m", 404),
    ],
)
async def test_what_is_answered_here(asleep: Stack, method: str, path: str, status: int) -> None:
    """Probes and lists never wake and are never activity."""
    assert (await asleep.request(method, path)).status == status
    assert asleep.api.applied == []
    assert asleep.tracker.demand("demo/m") is None


async def test_lists_need_a_key(asleep: Stack) -> None:
    """What there is to call is for those who may call it; health is for everyone."""
    asleep.endpoint("b", namespace="other")
    assert (await asleep.request("GET", "/v1/models", key="")).status == 401
    assert (await asleep.request("GET", "/info", key="")).status == 401
    assert (await asleep.request("GET", "/health", key="")).status == 200
    listed = (await asleep.request("GET", "/v1/models")).json
    assert [model["id"] for model in listed["data"]] == ["m"]
    assert listed["data"][0]["created"] == 1795341600


async def test_the_answer_before_the_body(asleep: Stack) -> None:
    """A stranger with a large body is refused before it is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", asleep.service.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401")
    assert b"connection: close" in await reader.read()
    writer.close()


async def test_the_body_is_asked_for(stack: Stack, replica: Replica) -> None:
    """`Expect: 100-continue` is answered once the caller is known to be welcome."""
    await stack.awake(replica)
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.service.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.keys['k']}\r\n"
    writer.write(head.encode() + b"Content-Length: 13\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b'{"model":"m"}')
    assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
    writer.close()
