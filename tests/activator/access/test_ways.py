"""Every way to a replica asks for the token first: HTTP/2, gRPC, WebSocket."""

from __future__ import annotations

import json
from functools import partial

import grpc
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.activator.access.issuer import ec, ed, key_set, rsa
from tests.activator.access.test_jwt import CONFIG_MAP, HELD, PATH
from tests.activator.grpc_replica import INFER, awake, channel, failure, grpc_replica
from tests.activator.replica import Replica
from tests.activator.stack import Stack
from tests.activator.test_websocket import awake as awake_socket
from tests.activator.test_websocket import engine
from tests.activator.wire.h2.client import connected

BAD = {
    "a stranger's": rsa("stranger").sign({"kid": "rsa"}),
    "an expired one": rsa().sign(exp=1),
    "one for others": rsa().sign(aud="others"),
}


@pytest.fixture
def held(stack: Stack) -> Stack:
    """Have an issuer whose keys are in a ConfigMap."""
    stack.api.config_maps[CONFIG_MAP] = {"jwks.json": key_set(rsa(), ec(), ed())}
    return stack


def bearer(text: str) -> tuple[str, str]:
    """Return the header that shows a token."""
    return ("authorization", f"Bearer {text}")


async def test_http2(held: Stack, replica: Replica) -> None:
    """Each stream by its own token, on one connection; two tokens on one stream are none."""
    await held.awake(replica, access=HELD)
    body = json.dumps({"model": "m", "messages": []}).encode()
    shown = ("content-type", "application/json")
    async with connected(held.service.port) as client:
        for text in BAD.values():
            refused = await client.answer(client.request(shown, bearer(text), path=PATH, body=body))
            assert (refused.status, refused.headers["x-zerotide-error"]) == (401, "invalid_api_key")
        good = bearer(ec().sign())
        assert (await client.answer(client.request(shown, good, path=PATH, body=body))).status == 200
        twice = await client.answer(client.request(shown, good, good, path=PATH, body=body))
        assert twice.status != 200
    assert len(replica.posts) == 1


async def test_grpc(held: Stack) -> None:
    """As metadata; the authority names the endpoint."""
    async with grpc_replica() as replica:
        await awake(held, replica, access=HELD)
        async with channel(held) as client:
            infer = client.unary_unary(INFER)
            for text in BAD.values():
                error = await failure(partial(infer, b"hello", metadata=(bearer(text),)))
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            assert await infer(b"hello", metadata=(bearer(ed().sign()),)) == b"HELLO"
        assert len(replica.seen) == 1
        assert "authorization" not in replica.seen[0]


async def test_web_socket(held: Stack) -> None:
    """With the upgrade, before it is passed on."""
    async with engine() as made:
        await awake_socket(held, made, access=HELD)
        url = f"ws://127.0.0.1:{held.service.port}/endpoints/demo/m/v1/realtime"
        for text in BAD.values():
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, additional_headers={"Authorization": f"Bearer {text}"}):
                    pass
            assert refused.value.response.status_code == 401
        async with connect(url, additional_headers={"Authorization": f"Bearer {rsa().sign()}"}) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        assert len(made.opened) == 1
