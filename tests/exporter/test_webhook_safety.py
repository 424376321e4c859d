"""Where webhooks must not lead, by whom a receiver is believed, and what signs nothing."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from tests.activator.wire.certificates import Authority
from tests.exporter.budgeting import World
from tests.exporter.hooks import OPS, delivered, quick, receiver, running_replica, secret, told
from tests.exporter.receiver import KEY, SECRET, Receiver
from zerotide.api.egress import Egress
from zerotide.exporter.webhooks.sender import Sender
from zerotide.kube import Client, Clock

__all__ = ["quick", "receiver"]


async def test_over_tls_by_whom_the_cluster_trusts(
    world: World, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By an authority of its own, and by nobody else."""
    folder = tmp_path_factory.mktemp("receiver")
    authority = Authority(folder / "ca")
    authority.mount(folder / "tls")
    await secret(world)
    await running_replica(world)
    async with Receiver(folder=folder / "tls") as receiver:
        await world.api.put("budgets", told(receiver.url))
        await world.at(60)
        (found,) = await delivered(world, "Failed")
        assert found["message"].startswith("no connection") and receiver.got == []
        world.couriers._sender = Sender(client, Egress.of(["127.0.0.0/8"]), authority.folder / "ca.crt", Clock())
        await world.api.put("budgets", {**told(receiver.url + "?again"), "status": world.status()})
        await receiver.until(1)
        await delivered(world, "Delivered")
        world.couriers._sender = Sender(client, Egress.of(["127.0.0.0/8"]), tmp_path_factory.mktemp("no"), Clock())
        await world.api.put("budgets", {**told(receiver.url + "?more"), "status": world.status()})
        (found,) = await delivered(world, "Failed")
        assert "cannot be read" in found["message"]


async def test_a_redirect_leads_nowhere(world: World, receiver: Receiver) -> None:
    await secret(world)
    await running_replica(world)

    def elsewhere() -> web.Response:
        return web.Response(status=307, headers={"Location": receiver.url})

    async with Receiver(*[elsewhere] * 4) as first:
        await world.api.put("budgets", told(first.url))
        await world.at(60)
        (found,) = await delivered(world, "Failed")
    assert receiver.got == [] and "no redirect is followed" in found["message"]


@contextmanager
def leading_to(monkeypatch: pytest.MonkeyPatch, address: str) -> Iterator[None]:
    """Let every name lead to an address."""

    async def resolve(self: object, host: str, port: int = 0, family: object = None) -> list[dict[str, object]]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}]

    with monkeypatch.context() as patched:
        patched.setattr("aiohttp.DefaultResolver.resolve", resolve)
        yield


@pytest.mark.parametrize(
    ("url", "address", "words"),
    [
        ("https://meta.example/latest", "169.254.169.254", "neither public nor in policy.egress.allow"),
        ("https://kubernetes.default.svc/api", "10.96.0.1", "neither public nor in policy.egress.allow"),
        ("https://mapped.example/", "::ffff:10.0.0.1", "neither public nor in policy.egress.allow"),
        ("https://public.example:22/", "1.1.1.1", "neither public nor in policy.egress.allow"),
        ("http://public.example:443/", "1.1.1.1", "not in policy.egress.allow; public addresses take https only"),
    ],
)
async def test_where_it_must_not_lead(
    world: World, monkeypatch: pytest.MonkeyPatch, url: str, address: str, words: str
) -> None:
    """Whatever name leads there; the address is judged that is connected to."""
    await secret(world)
    await running_replica(world)
    with leading_to(monkeypatch, address):
        await world.api.put("budgets", told(url))
        await world.at(60)
        (found,) = await delivered(world, "Failed")
    assert words in found["message"] and address not in found["message"]


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (None, "secret", "there is no Secret ops"),
        ("", "secret", "it must hold from 1 to 4 keys"),
        ("whsec_!", "secret", "its key 1 is not whsec_ and base64"),
        ("whsec_" + base64.b64encode(b"short").decode(), "secret", "its key 1 has 5 bytes"),
        (SECRET, "other", "has no key secret"),
    ],
)
async def test_secrets_that_sign_nothing(
    world: World, receiver: Receiver, text: str | None, key: str, words: str
) -> None:
    """They are named, nothing of them is repeated, and nothing is sent unsigned."""
    if text is not None:
        await secret(world, text, key)
    await running_replica(world)
    await world.api.put("budgets", told(receiver.url))
    await world.at(60)
    (found,) = await delivered(world, "Failed")
    assert words in found["message"] and receiver.got == []
    assert not text or text not in found["message"]


async def test_a_secret_that_may_not_be_read_says_what_to_do(world: World, receiver: Receiver) -> None:
    await secret(world)
    world.api.unreadable.add(OPS)
    await running_replica(world)
    await world.api.put("budgets", told(receiver.url))
    await world.at(60)
    (found,) = await delivered(world, "Failed")
    assert found["message"] == "Secret ops may not be read: bind a Role that lets zerotide-exporter get it"
    assert receiver.got == []


async def test_keys_are_changed_without_a_gap(world: World, receiver: Receiver) -> None:
    new = bytes(reversed(range(40)))
    await secret(world, f"whsec_{base64.b64encode(new).decode()}\n{SECRET}\n")
    await running_replica(world)
    await world.api.put("budgets", told(receiver.url))
    await world.at(60)
    (got,) = await receiver.until(1)
    assert got.signed_by(new) and got.signed_by(KEY) and not got.signed_by(b"x" * 32)
    await delivered(world, "Delivered")
