"""Requests that a URL serves: asked with its own token, where the policy lets it lead, and never twice."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web

from tests.activator.replica import Replica
from tests.activator.stack import Answer, Stack, until
from tests.activator.wire.certificates import Authority
from zerotide.activator.admission.naming import Name
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.traffic import abroad
from zerotide.api.egress import PUBLIC_ONLY, Egress
from zerotide.kube import Forbidden

TOKEN = "sk-very-secret"
SECRET = Name("demo", "vendor")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Vendor:
    """A model that somebody else serves, over TLS on loopback; `answer` replaces what it says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.answer: Handler | None = None
        self.asked: list[tuple[str, dict[str, str], Any]] = []

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.url = f"https://localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.path_qs, headers, json.loads(await request.read())))
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response({"object": "chat.completion"}, headers={"Set-Cookie": "a=b", "X-Zerotide-Forged": "1"})


def says(status: int, **headers: str) -> Handler:
    """Answer one thing."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status, headers=headers)

    return answer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who certifies the vendor."""
    folder = tmp_path_factory.mktemp("vendor")
    made = Authority(folder / "ca")
    made.mount(folder / "tls")
    return made


@pytest.fixture
async def vendor(authority: Authority) -> AsyncIterator[Vendor]:
    """Serve elsewhere."""
    async with Vendor(authority.folder.parent / "tls") as running:
        yield running


@pytest.fixture
async def trusting(stack: Stack, authority: Authority) -> Stack:
    """Run an activator that may reach loopback, and has a token."""
    envoy = stack.service.envoy
    envoy._egress, envoy._authorities = Egress.of(["127.0.0.0/8"]), authority.folder / "ca.crt"
    stack.api.secrets[SECRET] = {"token": base64.b64encode(TOKEN.encode() + b"\n").decode()}
    return stack


def cold(stack: Stack, url: str, while_cold: str = "Fallback", **fallback: Any) -> Endpoint:
    """Have an endpoint that sleeps, whose fallback is a URL, and a key to it."""
    where = {"url": url, "secretRef": {"name": "vendor"}, "model": "vendor-large", **fallback}
    where = {name: value for name, value in where.items() if value is not None}
    endpoint = stack.endpoint(hold={"whileCold": while_cold, "fallback": where})
    stack.key()
    return endpoint


def told(answer: Answer) -> tuple[str | None, str | None]:
    """Return what an answer's headers say of who served it, and why."""
    return answer.headers.get("x-zerotide-fallback"), answer.headers.get("x-zerotide-fallback-cause")


async def waits(stack: Stack, replica: Replica, **headers: str) -> Answer:
    """Ask, see that the request waits for its own endpoint, wake that, and return the answer."""
    endpoint = stack.registry.endpoints[Name("demo", "m")]
    asking = asyncio.create_task(stack.post(**headers))
    await until(lambda: endpoint.gate.held == 1)
    stack.pod(replica.port)
    return await asking


async def test_a_url_is_asked_with_its_own_token(trusting: Stack, vendor: Vendor) -> None:
    """By the name that the model has there, at the same path; nothing of the client's credential goes there."""
    cold(trusting, vendor.url)
    answer = await trusting.post("/v1/chat/completions?a=1", {"model": "m", "messages": []}, cookie="c=d", x_own="1")
    assert (answer.status, told(answer)) == (200, ("localhost", "cold"))
    assert answer.json == {"object": "chat.completion"}
    assert "set-cookie" not in answer.headers and "x-zerotide-forged" not in answer.headers
    ((path, headers, body),) = vendor.asked
    assert (path, body) == ("/v1/chat/completions?a=1", {"model": "vendor-large", "messages": []})
    assert headers["authorization"] == f"Bearer {TOKEN}" and headers["content-type"] == "application/json"
    assert not {"cookie", "x-own", "x-forwarded-for"} & headers.keys()
    assert headers["x-request-id"] == answer.headers["x-request-id"]
    await until(lambda: trusting.api.applied)
    assert trusting.records() == ([], []), "no replica served it"
    page, _ = trusting.service.metrics.render()
    assert b'zerotide_fallbacks_total{cause="cold",inference_endpoint="m",namespace="demo"} 1' in page
    await until(lambda: trusting.service.gateway.active == 0)


async def test_without_a_token_or_a_name_none_is_sent(trusting: Stack, vendor: Vendor) -> None:
    cold(trusting, vendor.url + "/proxy", secretRef=None, model=None)
    assert told(await trusting.post()) == ("localhost", "cold")
    ((path, headers, body),) = vendor.asked
    assert path == "/proxy/v1/chat/completions" and "authorization" not in headers and body["model"] == "m"


async def test_streams_come_as_they_are_sent(trusting: Stack, vendor: Vendor) -> None:
    """Piece by piece; the usage that was asked for on the way is taken out again."""
    first, go_on = asyncio.Event(), asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"index":0,"delta":{"content":"Paris"}}]}\n\n')
        first.set()
        await go_on.wait()
        await response.write(b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n')
        await response.write(b"data: [DONE]\n\n")
        return response

    vendor.answer = stream
    cold(trusting, vendor.url)
    asking = asyncio.create_task(trusting.post(body={"model": "m", "messages": [], "stream": True}))
    await first.wait()
    go_on.set()
    answer = await asking
    assert answer.status == 200 and told(answer) == ("localhost", "cold")
    assert b"Paris" in answer.body and b"[DONE]" in answer.body and b"usage" not in answer.body
    assert vendor.asked[0][2]["stream_options"] == {"include_usage": True}


async def test_a_stream_that_breaks_off_is_no_complete_answer(trusting: Stack, vendor: Vendor) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"index":0,"delta":{"content":"Par"}}]}\n\n')
        assert request.transport is not None
        request.transport.abort()
        return response

    vendor.answer = cut
    cold(trusting, vendor.url)
    with pytest.raises(aiohttp.ClientError):
        await trusting.post(body={"model": "m", "messages": [], "stream": True})
    await until(lambda: trusting.service.gateway.active == 0)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_it_says_of_the_request_is_the_answer(trusting: Stack, vendor: Vendor, status: int) -> None:
    cold(trusting, vendor.url)
    vendor.answer = says(status)
    answer = await trusting.post()
    assert (answer.status, told(answer)) == (status, ("localhost", "cold"))


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 429, 500, 503])
async def test_what_it_says_of_itself_is_none(
    trusting: Stack, vendor: Vendor, replica: Replica, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """The request waits for its own endpoint; a client is never told that its key is wrong. It is logged, once."""
    cold(trusting, vendor.url)
    vendor.answer = says(status, Location=vendor.url + "/elsewhere")
    with caplog.at_level(logging.WARNING):
        answer = await waits(trusting, replica)
    assert (answer.status, told(answer)) == (200, (None, None))
    assert len(vendor.asked) == 1
    (said,) = [each for each in caplog.records if each.message == "a fallback could not serve"]
    assert said.__dict__["error"] == f"it answered {status}" and TOKEN not in str(said.__dict__)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ("secret", "there is no Secret vendor"),
        ("key", "Secret vendor has no key token that holds a token"),
        ("rights", "bind a Role that lets zerotide-activator get it"),
        ("policy", "neither public nor in policy.egress.allow"),
        ("nobody", "no connection"),
        ("certificate", "no connection"),
    ],
)
async def test_where_it_cannot_be_asked(
    trusting: Stack,
    vendor: Vendor,
    replica: Replica,
    caplog: pytest.LogCaptureFixture,
    spoilt: str,
    words: str,
) -> None:
    """Nothing is sent, and the request waits."""
    url, envoy = vendor.url, trusting.service.envoy
    if spoilt == "secret":
        trusting.api.secrets.clear()
    elif spoilt == "key":
        trusting.api.secrets[SECRET] = {"token": base64.b64encode(b"a\nb").decode()}
    elif spoilt == "rights":
        trusting.api.unreadable = Forbidden(403, "Forbidden", "no")
    elif spoilt == "policy":
        envoy._egress = PUBLIC_ONLY
    elif spoilt == "certificate":
        envoy._authorities = None
    elif spoilt == "nobody":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"https://127.0.0.1:{free.getsockname()[1]}"
    cold(trusting, url)
    with caplog.at_level(logging.WARNING):
        answer = await waits(trusting, replica)
    assert (answer.status, told(answer)) == (200, (None, None)) and vendor.asked == []
    (said,) = [each for each in caplog.records if each.message == "a fallback could not serve"]
    assert words in said.__dict__["error"]


async def test_an_answer_that_takes_too_long(trusting: Stack, vendor: Vendor, replica: Replica) -> None:
    never = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    vendor.answer = hang
    where = {"url": vendor.url, "secretRef": {"name": "vendor"}}
    trusting.endpoint(hold={"whileCold": "Fallback", "fallback": where}, request={"timeout": "1s"})
    trusting.key()
    answer = await waits(trusting, replica)
    assert (answer.status, told(answer)) == (200, (None, None))
    never.set()


async def test_a_client_that_leaves_ends_it(trusting: Stack, vendor: Vendor) -> None:
    came, never = asyncio.Event(), asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        came.set()
        await never.wait()
        return web.Response()

    vendor.answer = hang
    cold(trusting, vendor.url)
    asking = asyncio.create_task(trusting.post())
    await came.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: trusting.service.gateway.active == 0)
    vendor.answer = None
    never.set()
    assert told(await trusting.post()) == ("localhost", "cold")


async def test_so_many_at_once_and_so_many_of_one_consumer(
    trusting: Stack, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint's own limit of a consumer holds, and one for all of them together."""
    came, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        came.set()
        await go_on.wait()
        return web.json_response({})

    vendor.answer = slow
    where = {"url": vendor.url, "secretRef": {"name": "vendor"}}
    hold = {"whileCold": "Fallback", "fallback": where}
    endpoint = trusting.endpoint(hold=hold, access={"maxInFlightPerConsumer": 1})
    trusting.key()
    asking = asyncio.create_task(trusting.post())
    await came.wait()
    assert (await trusting.post()).code == "consumer_limit"
    trusting.service.envoy._slots = asyncio.Semaphore(0)
    trusting.endpoint(hold=hold)
    trusting.key("other", consumer="team-b")
    waiting = asyncio.create_task(trusting.post(key="other"))
    await until(lambda: endpoint.gate.held == 1)
    go_on.set()
    assert told(await asking) == ("localhost", "cold")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert abroad.AT_ONCE == 256 and len(vendor.asked) == 1


async def test_a_budget_sends_requests_there(trusting: Stack, vendor: Vendor, replica: Replica) -> None:
    """And refuses with its own error where nobody serves."""
    endpoint = cold(trusting, vendor.url, "Hold")
    trusting.pod(replica.port)
    await until(lambda: not endpoint.gate.cold)
    trusting.budget("Fallback")
    assert told(await trusting.post()) == ("localhost", "budget")
    assert replica.posts == []
    vendor.answer = says(503)
    refused = await trusting.post()
    assert (refused.status, refused.code, told(refused)) == (402, "budget_exhausted", (None, None))
