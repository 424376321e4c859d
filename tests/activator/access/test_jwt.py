"""Tokens at the gateway: who may call, who pays, and that whatever is wrong with one wakes nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest

from tests.activator.access.issuer import AUDIENCE, ISSUER, Publisher, ec, ed, key_set, rsa, says, waits
from tests.activator.access.test_token import ATTACKS
from tests.activator.replica import TEXT, Replica
from tests.activator.stack import Answer, Stack, gather, until
from tests.activator.test_express import Tasks
from zerotide.activator.access import keys as pace
from zerotide.activator.access.tokens import RECHECK_US
from zerotide.activator.admission.naming import Name
from zerotide.kube import ConnectionFailed

HOST = "m.demo.svc.cluster.local"
PATH = "/endpoints/demo/m/v1/chat/completions"
CONFIG_MAP = Name("demo", "issuer")


def access(**jwt: Any) -> dict[str, Any]:
    """Return who may call an endpoint."""
    return {"auth": "JWT", "jwt": {"issuer": ISSUER, "audiences": [AUDIENCE], **jwt}}


HELD = access(jwksConfigMap={"name": "issuer"})


@pytest.fixture
def held(stack: Stack) -> Stack:
    """Have a sleeping endpoint whose issuer's keys are in a ConfigMap."""
    stack.api.config_maps[CONFIG_MAP] = {"jwks.json": key_set(rsa(), ec(), ed())}
    stack.endpoint(access=HELD)
    return stack


async def call(stack: Stack, token: str, path: str = PATH, **headers: str) -> Answer:
    """Ask a question with a token."""
    return await stack.post(path, key="", authorization=f"Bearer {token}", **headers)


async def test_a_token_opens_its_endpoint(held: Stack, replica: Replica) -> None:
    """By path, host or header, with any kind of key; the claim pays, in the endpoint's own namespace."""
    await held.awake(replica, access=HELD)
    for token, place in ((rsa().sign(), {}), (ec().sign(), {"host": HOST}), (ed().sign(), {})):
        answer = await call(held, token, PATH if not place else "/v1/chat/completions", **place)
        assert answer.status == 200, answer.body
    by_header = await call(held, rsa().sign(sub="b"), "/v1/chat/completions", x_zerotide_endpoint="demo/m")
    assert by_header.status == 200
    assert [intent.consumer for intent in held.records()[0]] == ["demo/team-a"] * 3 + ["demo/b"]
    assert {intent.key_id for intent in held.records()[0]} == {""}
    assert not any(request.get("authorization") for request in replica.posts)


@pytest.mark.parametrize("name", ATTACKS)
async def test_bad_tokens_wake_nothing(held: Stack, name: str) -> None:
    """They get the answer that any stranger gets, and are counted by what is wrong with them."""
    text, failure = ATTACKS[name]
    if not text.isascii():
        text = text.encode().decode("latin-1")
    answer = await call(held, text)
    stranger = await held.post("/endpoints/demo/none/v1/chat/completions", key="")
    assert (answer.status, answer.code) == (stranger.status, stranger.code) == (401, "invalid_api_key")
    assert answer.body == stranger.body
    assert answer.headers["www-authenticate"] == "Bearer"
    assert held.api.applied == []
    assert held.tracker.demand("demo/m") is None
    assert dict(held.registry.tokens.refused) == {failure.reason: 1}


async def test_the_answer_before_the_body(held: Stack) -> None:
    """A stranger with a large body is refused before it is read; so is one with two tokens."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n"
    for lines, status in (
        (f"Authorization: Bearer {rsa('stranger').sign()}\r\n", 401),
        (f"Authorization: Bearer {rsa().sign()}\r\nAuthorization: Bearer x\r\n", 400),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", held.service.port)
        writer.write((head + lines + "\r\n").encode())
        assert (await reader.readuntil(b"\r\n")).startswith(f"HTTP/1.1 {status}".encode())
        writer.close()
    assert held.api.applied == []


async def test_keys_and_tokens_open_each_their_own(held: Stack, replica: Replica) -> None:
    """An API key of the namespace opens no endpoint that wants tokens, and no token opens one that wants keys."""
    held.endpoint("keys")
    held.key()
    refused = await held.post(PATH)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await held.post(body={"model": "m"})).code == "model_not_found"
    token = rsa().sign()
    assert (await call(held, token, "/endpoints/demo/keys/v1/chat/completions")).status == 401
    listed = await held.request("GET", "/v1/models")
    assert [model["id"] for model in listed.json["data"]] == ["keys"]
    mine = await held.request("GET", "/endpoints/demo/m/v1/models", key="", authorization=f"Bearer {token}")
    assert [model["id"] for model in mine.json["data"]] == ["m"]
    assert held.api.applied == []


async def test_the_endpoint_must_be_named(held: Stack) -> None:
    """Whose keys prove a token is known by its endpoint: `model` alone, or two places that differ, do not say it."""
    held.endpoint("b", access=HELD)
    unnamed = await call(held, rsa().sign(), "/v1/chat/completions")
    assert unnamed.status == 401
    assert "host, path or X-Zerotide-Endpoint" in unnamed.json["error"]["message"]
    assert (await call(held, rsa().sign(), x_zerotide_endpoint="demo/b")).code == "endpoint_mismatch"
    assert held.api.applied == []


async def test_openai_s_client_sends_a_token_as_its_key(held: Stack, replica: Replica) -> None:
    """From zero: held, woken and answered."""
    async with openai.AsyncOpenAI(
        base_url=f"{held.url}/endpoints/demo/m/v1", api_key=rsa().sign(), max_retries=0
    ) as client:
        asking = asyncio.create_task(
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "The capital of France?"}])
        )
        endpoint = held.registry.endpoints[Name("demo", "m")]
        await until(lambda: endpoint.gate.held == 1, 30)
        held.pod(replica.port)
        assert (await asking).choices[0].message.content == TEXT
        assert (await client.models.list()).data[0].id == "m"
    async with openai.AsyncOpenAI(
        base_url=f"{held.url}/endpoints/demo/m/v1", api_key=rsa().sign(exp=1), max_retries=2
    ) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_warm_requests_need_no_task(held: Stack, replica: Replica) -> None:
    """A token that was proven is remembered: no task, no signature, and the keys are read once."""
    await held.awake(replica, access=HELD)
    token = rsa().sign()
    assert (await call(held, token)).status == 200
    tasks = Tasks(held)
    for _ in range(3):
        assert (await call(held, token)).status == 200
    assert tasks.count == 0
    assert held.registry.tokens.loads == {"loaded": 1}


async def test_a_token_ends_while_its_head_is_remembered(held: Stack, replica: Replica) -> None:
    """It is refused from its end on, however warm the way was."""
    await held.awake(replica, access=HELD)
    shift = 0
    real = held.service.gateway._wall_us

    def now_us() -> int:
        return real() + shift

    held.service.gateway._wall_us = held.service.gateway._intake._wall_us = now_us
    token = rsa().sign(exp=int(time.time()) + 40)
    for _ in range(3):
        assert (await call(held, token)).status == 200
    shift = 80_000_000
    assert (await call(held, token)).status == 401
    assert held.registry.tokens.refused == {"expired": 1}


async def test_a_withdrawn_key_opens_nothing(held: Stack, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the keys were read again, a token that was proven by a key that is gone is refused."""
    await held.awake(replica, access=HELD)
    shift = 0
    real = held.service.gateway._wall_us
    held.service.gateway._wall_us = held.service.gateway._intake._wall_us = lambda: real() + shift
    token = rsa().sign()
    for _ in range(2):
        assert (await call(held, token)).status == 200
    held.api.config_maps[CONFIG_MAP] = {"jwks.json": key_set(ec())}
    monkeypatch.setattr(pace, "GAP", 3600.0)
    keys, monotonic = held.registry.tokens._keys_of(_source(held)), held.service.clock.monotonic
    keys._now = lambda: monotonic() + 1.5 * pace.REFRESH[True]
    shift = RECHECK_US
    assert (await call(held, token)).status == 200  # this one starts the reading
    await until(lambda: held.registry.tokens.loads["loaded"] == 2, 30)
    shift = 2 * RECHECK_US
    assert (await call(held, token)).status == 401
    assert (await call(held, ec().sign())).status == 200


async def test_a_key_that_was_withdrawn_while_nobody_called(held: Stack, replica: Replica) -> None:
    """Its token is refused at once: the keys are read before it is believed again."""
    await held.awake(replica, access=HELD)
    token = rsa().sign()
    for _ in range(2):
        assert (await call(held, token)).status == 200
    held.api.config_maps[CONFIG_MAP] = {"jwks.json": key_set(ec())}
    keys, real = held.registry.tokens._keys_of(_source(held)), held.service.clock.monotonic
    keys._now = lambda: real() + 3 * pace.REFRESH[True]
    held.registry.version += 1  # as a minute makes it that has passed
    assert (await call(held, token)).status == 401
    assert (await call(held, ec().sign())).status == 200


async def test_rotation(held: Stack, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token with a key that is not known yet makes the keys be read again, and waits for them; but not each time."""
    await held.awake(replica, access=HELD)
    assert (await call(held, rsa().sign())).status == 200
    new = ec("new")
    held.api.config_maps[CONFIG_MAP] = {"jwks.json": key_set(rsa(), new)}
    assert (await call(held, new.sign())).status == 401  # the keys were read a moment ago
    assert held.registry.tokens.loads == {"loaded": 1}
    monkeypatch.setattr(pace, "GAP", 0.0)
    assert (await call(held, new.sign())).status == 200
    assert held.registry.tokens.loads == {"loaded": 2}


@pytest.mark.parametrize("content", [None, {}, {"jwks.json": "{"}, {"jwks.json": '{"keys":[]}'}, {"other": "{}"}])
async def test_keys_that_cannot_be_had(held: Stack, content: dict[str, str] | None) -> None:
    """Nothing wakes, the client is told and does not repeat it; whoever has no token of the issuer learns nothing."""
    del held.api.config_maps[CONFIG_MAP]
    if content is not None:
        held.api.config_maps[CONFIG_MAP] = content
    answer = await call(held, rsa().sign())
    assert (answer.status, answer.code) == (500, "credentials_missing")
    assert answer.headers["x-should-retry"] == "false"
    assert "issuer" not in answer.json["error"]["message"].split("keys of its issuer")[0]
    assert (await call(held, rsa().sign(iss="https://evil.example"))).status == 401
    assert held.api.applied == []
    assert held.tracker.demand("demo/m") is None


async def test_the_api_server_is_away(held: Stack, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that were read are kept; those that never were are told apart from a ConfigMap that is gone."""
    await held.awake(replica, access=HELD)
    monkeypatch.setitem(pace.REFRESH, True, 0.0)
    assert (await call(held, rsa().sign())).status == 200
    held.api.down = ConnectionFailed("refused")
    assert (await call(held, rsa().sign(sub="b"))).status == 200
    await until(lambda: held.registry.tokens.loads["failed"], 30)
    assert (await call(held, rsa().sign(sub="c"))).status == 200
    held.api.down = None
    del held.api.config_maps[CONFIG_MAP]
    monkeypatch.setattr(pace, "FIRST_RETRY", 0.0)
    await call(held, rsa().sign(sub="d"))
    await until(lambda: not held.registry.tokens._keys_of(_source(held))._set, 30)
    assert (await call(held, rsa().sign(sub="e"))).code == "credentials_missing"


def _source(stack: Stack) -> Any:
    trust = stack.registry.endpoints[Name("demo", "m")].profile.trust
    assert trust is not None
    return trust.source


# Keys at a URL


async def test_a_crowd_reads_the_keys_once(trusting: Stack, publisher: Publisher, replica: Replica) -> None:
    """All of it waits for one reading, of several endpoints and namespaces as well."""
    ready = asyncio.Event()
    publisher.answer = waits(ready, publisher.text)
    jwt = access(jwksURL=publisher.url)
    await trusting.awake(replica, access=jwt)
    trusting.endpoint("m", "other", access=jwt, hold={"whileCold": "Reject"})
    crowd = [call(trusting, key.sign(sub=f"s{number}")) for key in (rsa(), ec(), ed()) for number in range(7)]
    other = call(trusting, rsa().sign(), "/endpoints/other/m/v1/chat/completions", prefer="wait=0")
    asking = asyncio.gather(*crowd, other)
    await until(lambda: trusting.service.gateway.active == 22, 30)
    ready.set()
    *answers, last = await asking
    assert {answer.status for answer in answers} == {200}
    assert last.code == "endpoint_cold"
    assert publisher.asked == ["/jwks"]


async def test_an_issuer_that_fails(trusting: Stack, publisher: Publisher) -> None:
    """Nothing wakes, and the issuer is not asked for each request."""
    publisher.answer = says(500)
    trusting.endpoint(access=access(jwksURL=publisher.url))
    answers = await gather(*(call(trusting, rsa().sign(sub=f"s{number}")) for number in range(9)))
    assert {answer.code for answer in answers} == {"credentials_missing"}
    assert len(publisher.asked) == 1
    assert trusting.api.applied == []


async def test_a_client_that_leaves_while_keys_are_awaited(trusting: Stack, publisher: Publisher) -> None:
    """The reading goes on for others, nothing wakes, and nothing of it is left."""
    ready = asyncio.Event()
    publisher.answer = waits(ready, publisher.text)
    trusting.endpoint(access=access(jwksURL=publisher.url))
    leaving = asyncio.create_task(call(trusting, rsa().sign()))
    await until(lambda: publisher.asked, 30)
    leaving.cancel()
    await until(lambda: not trusting.service.gateway.active, 30)
    ready.set()
    await until(lambda: trusting.registry.tokens.loads["loaded"], 30)
    assert trusting.api.applied == []


async def test_keys_that_nobody_trusts_are_forgotten(held: Stack) -> None:
    """With their endpoint, and with a change of it."""
    await call(held, rsa("stranger").sign())
    assert len(held.registry.tokens._keys) == 1
    held.registry.keep_keys()
    assert len(held.registry.tokens._keys) == 1
    held.endpoint(access={"auth": "APIKey"})
    held.registry.keep_keys()
    assert len(held.registry.tokens._keys) == 0
