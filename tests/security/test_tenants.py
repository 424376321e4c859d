"""What one tenant must not learn of another, nor any client of the inside."""

from __future__ import annotations

import asyncio
import gzip
import logging
import secrets

import pytest

from tests.activator.replica import Received, Replica, reset, send
from tests.activator.stack import Stack, until
from zerotide.api.apikey import parse_key

CHAT = "/v1/chat/completions"
ELSEWHERE = "http://127.0.0.1:1/"
JSON = {"content_type": "application/json"}


async def test_a_replica_s_answer_is_passed_on_and_never_acted_upon(stack: Stack, replica: Replica) -> None:
    """Cookies are not kept for the next request, redirects not followed, compressed answers not unpacked."""
    packed = gzip.compress(b'{"a":1}')

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        send(writer, 307, packed, content_encoding="gzip", location=ELSEWHERE, set_cookie="tenant=one", **JSON)

    replica.behave = behave
    await stack.awake(replica)
    headers = {"authorization": f"Bearer {stack.keys['k']}", "accept-encoding": "identity"}
    for _ in range(2):
        async with stack.session.post(
            stack.url + CHAT, json={"model": "m", "messages": []}, headers=headers, allow_redirects=False
        ) as answer:
            assert (answer.status, await answer.read()) == (307, packed)
            assert answer.headers["Location"] == ELSEWHERE
            assert answer.headers["Set-Cookie"] == "tenant=one"
        stack.session.cookie_jar.clear()
    assert [request.get("cookie") for request in replica.posts] == ["", ""]


async def test_what_is_inside_is_not_on_the_gateway(stack: Stack, replica: Replica) -> None:
    """Admin pages and the talk between processes have ports of their own; no host, key or prefix leads to them."""
    await stack.awake(replica)
    for path in ("/metrics", "/healthz", "/readyz", "/livez", "/internal/demand", "/internal/council"):
        for host in ("gateway", "localhost:9090", "zerotide-activator.zerotide-system.svc", "m.demo.svc"):
            for target in (path, f"/endpoints/demo/m{path}"):
                for key in ("k", ""):
                    answer = await stack.request("GET", target, key=key, host=host)
                    assert answer.status in (400, 401, 403, 404), (target, host, key)
                    assert answer.json["error"] and b"zerotide_" not in answer.body
    assert {request.target for request in replica.received} == {"/health"}


async def test_errors_carry_an_id_and_nothing_of_the_inside(stack: Stack, replica: Replica) -> None:
    """Neither addresses nor names of pods: the id is what a client can tell, and finds the rest in the log."""
    await stack.awake(replica)
    replica.behave = reset
    lost = await stack.post(x_request_id="mine-1")
    assert (lost.status, lost.headers["x-request-id"]) == (502, "mine-1")
    stranger = await stack.post(key="none")
    assert (stranger.status, len(stranger.headers["x-request-id"])) == (401, 32)
    for answer in (lost, stranger):
        told = answer.body.decode() + str(answer.headers)
        assert not [word for word in ("127.0.0.1", str(replica.port), "m-1", "pod-", "uid-", "act-0") if word in told]


async def test_the_secret_of_a_key_is_told_to_nobody(
    stack: Stack, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """Not to the log at its finest, the usage log, figures, demand, the API server, replicas or clients."""
    caplog.set_level(logging.DEBUG)
    endpoint = await stack.awake(replica)
    good, wrong, odd = stack.keys["k"], f"zt_k_{secrets.token_urlsafe(37)}", f"Zt canary {secrets.token_hex(8)}"
    told: list[str] = []
    for text in (good, wrong, odd):
        for headers in ({"authorization": f"Bearer {text}"}, {"x_api_key": text}, {"authorization": text}):
            for behave in (None, reset):
                replica.behave = behave
                answer = await stack.post(key="none", **headers)
                told.append(f"{answer.headers}{answer.body!r}")
                await until(lambda: not endpoint.gate.cold, timeout=60)
    assert replica.posts and stack.service.journal is not None
    page, _ = await stack.service.metrics.render_gently()
    told += [caplog.text, page.decode(), str(stack.tracker.demand("demo/m")), str(stack.api.applied)]
    told += [str(request) for request in replica.received]
    told += [path.read_text() for path in stack.service.journal.segments()]
    secret = parse_key(good).secret
    for canary in (good[5:], secret.hex(), repr(secret)[2:-1], wrong[5:], odd):
        assert not [each for each in told if canary in each]
