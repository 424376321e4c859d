"""Webhooks of budgets: signed, once in a window over restarts, again within bounds, and beside everything else."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.activator.wire.certificates import Authority
from tests.billing.worlds import T0, life
from tests.exporter.budgeting import World, add, budget
from tests.exporter.fakeapi import FakeApi
from tests.exporter.receiver import KEY, SECRET, Receiver
from zerotide.api.egress import Egress
from zerotide.api.scalars import format_time
from zerotide.billing import thresholds
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.exporter.webhooks import couriers as couriers_module
from zerotide.exporter.webhooks import sender as sender_module
from zerotide.exporter.webhooks.sender import Sender
from zerotide.kube import Client, Clock, Key

QUICK = (0.0, 0.02, 0.04, 0.06)
OPS: Key = ("demo", "ops")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what was not taken sent again soon, four times in all."""
    monkeypatch.setattr(thresholds, "SCHEDULE_S", QUICK)
    monkeypatch.setattr(couriers_module, "WRITE_AGAIN_S", 0.05)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Take webhooks."""
    async with Receiver() as running:
        yield running


async def secret(world: World, text: str = SECRET, key: str = "secret") -> None:
    """Put a Secret there that holds a text."""
    data = {key: base64.b64encode(text.encode()).decode()}
    await world.api.put("secrets", {"metadata": {"namespace": OPS[0], "name": OPS[1]}, "data": data})


def told(url: str, amount: str = "0.10", **spec: Any) -> dict[str, Any]:
    """Return a budget that tells a URL of each threshold."""
    notify = [{"name": "ops", "url": url, "secretRef": {"name": OPS[1]}}]
    return budget(amount, **{"thresholds": [{"percent": 50, "action": "Notify"}], "notify": notify, **spec})


def deliveries(world: World) -> list[dict[str, Any]]:
    """Return what the status says of webhooks."""
    found: list[dict[str, Any]] = world.status().get("deliveries") or []
    return found


async def delivered(world: World, *states: str) -> list[dict[str, Any]]:
    """Wait until these are the states of all deliveries; return them."""
    await world.api.until(lambda: tuple(each["state"] for each in deliveries(world)) == states)
    return deliveries(world)


async def running_replica(world: World) -> None:
    """Have a replica run since T0, which uses up 0.001 USD each second."""
    await add(world, *life(scheduled=0, started=5, ready=20))


async def test_each_threshold_is_told_once_and_signed(world: World, receiver: Receiver) -> None:
    await secret(world)
    await running_replica(world)
    thresholds = [{"percent": 50, "action": "Notify"}, {"percent": 100, "action": "Block"}]
    await world.api.put("budgets", told(receiver.url, thresholds=thresholds))
    await world.until(state="Ok")
    await world.at(50)
    (first,) = await receiver.until(1)
    assert first.signed_by(KEY) and first.path == "/hook"
    assert first.headers["content-type"] == "application/json"
    reached = format_time(T0 + 50_000_000)
    assert first.content == {
        "type": "budget.threshold_reached",
        "timestamp": reached,
        "data": {
            "namespace": "demo",
            "budget": "month",
            "uid": "month",
            "percent": 50,
            "action": "Notify",
            "used": "0.05 USD",
            "limit": "0.10 USD",
            "windowStart": "2025-06-01T00:00:00Z",
            "windowEnd": "2025-07-01T00:00:00Z",
        },
    }
    await delivered(world, "Delivered")
    assert world.status()["reached"] == [
        {"percent": 50, "action": "Notify", "time": reached, "used": "0.05 USD"},
    ]
    await world.at(100)
    _, second = await receiver.until(2)
    assert (second.content["data"]["percent"], second.content["data"]["action"]) == (100, "Block")
    assert second.id != first.id and second.signed_by(KEY)
    both = await delivered(world, "Delivered", "Delivered")
    assert [(each["id"], each["attempts"], each["webhook"]) for each in both] == [
        (first.id, 1, "ops"),
        (second.id, 1, "ops"),
    ]
    assert world.couriers.sent == {("demo", "month", "delivered"): 2}
    await world.api.until(lambda: len(world.api.told) == 2)


async def looked(world: World, times: int = 2) -> None:
    """Wait until budgets were looked at so many times more."""
    before = world.task.looks
    async with asyncio.timeout(30):
        while world.task.looks < before + times:
            world.task._look.set()
            await asyncio.sleep(0.01)


async def test_a_restart_tells_nothing_twice(
    api: FakeApi, client: Client, ledger: Threaded[Store], receiver: Receiver
) -> None:
    world = World(api, client, ledger)
    await secret(world)
    await running_replica(world)
    async with world.running():
        await api.put("budgets", told(receiver.url))
        await world.at(60)
        await receiver.until(1)
        await delivered(world, "Delivered")
        await api.until(lambda: len(api.told) == 1)
    # Events are kept for an hour, so one of before that would be told again if only names were looked at.
    api.told.clear()
    successor = World(api, client, ledger)
    await successor.at(3660)
    async with successor.running():
        await successor.until(percent=3660)
        await looked(successor)
    assert len(receiver.got) == 1 and api.told == {}
    assert successor.couriers.sent == {}


async def test_what_was_not_told_before_a_restart_is_told_after_it(
    api: FakeApi, client: Client, ledger: Threaded[Store]
) -> None:
    world = World(api, client, ledger)
    await secret(world)
    await running_replica(world)
    async with Receiver(500) as receiver:
        receiver.open.clear()
        async with world.running():
            await api.put("budgets", told(receiver.url))
            await world.at(60)
            await receiver.until(1)
        receiver.open.set()
        api.told.clear()
        successor = World(api, client, ledger)
        await successor.at(70)
        async with successor.running():
            await receiver.until(2)
            await delivered(successor, "Delivered")
            await api.until(lambda: len(api.told) == 1)
        assert len({each.id for each in receiver.got}) == 1 and len({each.raw for each in receiver.got}) == 1


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


async def test_a_new_window_tells_anew(world: World, receiver: Receiver) -> None:
    await secret(world)
    await running_replica(world)
    await world.api.put("budgets", told(receiver.url, window={"period": "Day"}))
    await world.at(60)
    await receiver.until(1)
    await delivered(world, "Delivered")
    await world.at(24 * 3600 + 60)
    first, second = await receiver.until(2)
    assert first.id != second.id
    await delivered(world, "Delivered")
    await world.api.until(lambda: len(world.api.told) == 2)
    assert world.api.told.keys() == {event["metadata"]["name"] for event in world.api.told.values()}


async def test_what_is_not_taken_is_sent_again_under_the_same_id(world: World) -> None:
    await secret(world)
    await running_replica(world)
    async with Receiver(503, 500) as receiver:
        await world.api.put("budgets", told(receiver.url))
        await world.at(60)
        got = await receiver.until(3)
        (found,) = await delivered(world, "Delivered")
    assert len({each.id for each in got}) == 1 and len({each.raw for each in got}) == 1
    assert all(each.signed_by(KEY) for each in got)
    assert (found["attempts"], found.get("message")) == (3, None)
    assert world.couriers.sent == {("demo", "month", "delivered"): 1, ("demo", "month", "retrying"): 2}
    assert world.couriers.undelivered() == {}


async def test_what_is_not_taken_is_counted_over_restarts(
    api: FakeApi, client: Client, ledger: Threaded[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is taken, while it is under way again, too."""
    monkeypatch.setattr(thresholds, "SCHEDULE_S", (0.0, 60.0))
    world = World(api, client, ledger)
    await secret(world)
    await running_replica(world)
    async with Receiver(503) as receiver:
        async with world.running():
            await api.put("budgets", told(receiver.url))
            await world.at(60)
            await delivered(world, "Retrying")
            assert world.couriers.undelivered() == {("demo", "month", "retrying"): 1}
        monkeypatch.setattr(thresholds, "SCHEDULE_S", (0.0, 0.02))
        receiver.open.clear()
        successor = World(api, client, ledger)
        await successor.at(60)
        async with successor.running():
            await receiver.until(2)
            assert successor.couriers.undelivered() == {("demo", "month", "retrying"): 1}
            receiver.open.set()
            await delivered(successor, "Delivered")
            assert successor.couriers.undelivered() == {}


async def test_a_receiver_that_never_takes_it_is_given_up(world: World) -> None:
    await secret(world)
    await running_replica(world)
    async with Receiver(*[500] * 20) as receiver:
        await world.api.put("budgets", told(receiver.url))
        await world.at(60)
        (found,) = await delivered(world, "Failed")
        await looked(world)
        assert len(receiver.got) == len(QUICK)
    assert (found["attempts"], found["message"]) == (len(QUICK), "it answered 500")
    assert world.couriers.undelivered() == {("demo", "month", "failed"): 1}
    await world.api.until(lambda: "WebhookFailed" in {event["reason"] for event in world.api.told.values()})
    (event,) = (event for event in world.api.told.values() if event["reason"] == "WebhookFailed")
    assert event["message"] == "webhook ops of 50 % is given up: it answered 500"
    assert receiver.url not in str(world.api.told)


async def test_one_that_wants_no_more_is_left_alone(world: World) -> None:
    await secret(world)
    await running_replica(world)
    async with Receiver(410) as receiver:
        await world.api.put("budgets", told(receiver.url))
        await world.at(60)
        (found,) = await delivered(world, "Failed")
        await looked(world)
        assert len(receiver.got) == 1
    assert found["message"] == "it answered 410: it takes no webhooks any more"


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


async def test_a_receiver_may_ask_to_be_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await secret(world)
    await running_replica(world)

    def later() -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "86400"})

    monkeypatch.setattr(sender_module, "LONGEST_WAIT_S", 1)
    async with Receiver(later) as receiver:
        await world.api.put("budgets", told(receiver.url))
        await world.at(60)
        first, second = await receiver.until(2)
        await delivered(world, "Delivered")
    assert second.timestamp > first.timestamp, "not sooner than it asked, and not later than the bound"


async def test_a_receiver_that_hangs_keeps_nothing_else_waiting(world: World) -> None:
    await secret(world)
    await running_replica(world)
    async with Receiver() as hanging:
        hanging.open.clear()
        await world.api.put("budgets", told(hanging.url))
        await world.at(60)
        await hanging.until(1)
        await world.at(100)
        await world.until(state="Exhausted", percent=100)
        assert deliveries(world) == [] and world.task.ratios[0].ratio == 1.0
        hanging.open.set()
        await delivered(world, "Delivered")


async def test_no_answer_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await secret(world)
    await running_replica(world)
    monkeypatch.setattr(sender_module, "TIMEOUT_S", 0.1)
    async with Receiver() as hanging:
        hanging.open.clear()
        await world.api.put("budgets", told(hanging.url))
        await world.at(60)
        (found,) = await delivered(world, "Failed")
    assert found["message"] == "no answer within 0.1 s"


async def test_nobody_there(world: World) -> None:
    await secret(world)
    await running_replica(world)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        await world.api.put("budgets", told(f"http://127.0.0.1:{free.getsockname()[1]}/secret-path"))
        await world.at(60)
        (found,) = await delivered(world, "Failed")
    assert found["message"].startswith("no connection")
    assert "secret-path" not in str(world.api.told) + found["message"]


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


async def test_one_of_several_exporters_delivers(world: World, receiver: Receiver) -> None:
    await secret(world)
    await running_replica(world)
    world.leading = False
    await world.api.put("budgets", told(receiver.url))
    await world.at(60)
    await world.until(state="Warning")
    await looked(world)
    assert receiver.got == [] and deliveries(world) == []
    world.leading = True
    await receiver.until(1)
    await delivered(world, "Delivered")
    assert len(receiver.got) == 1


async def under_way(world: World, receiver: Receiver) -> None:
    """Have one webhook that its receiver has and has not answered."""
    await secret(world)
    await running_replica(world)
    receiver.open.clear()
    await world.api.put("budgets", told(receiver.url))
    await world.at(60)
    await receiver.until(1)


async def test_what_cannot_be_written_is_written_later_and_not_sent_again(world: World, receiver: Receiver) -> None:
    await under_way(world, receiver)
    world.api.refuse_patches = True
    receiver.open.set()
    await looked(world, 3)
    world.api.refuse_patches = False
    await delivered(world, "Delivered")
    assert len(receiver.got) == 1


async def test_a_budget_that_is_gone_delivers_nothing_more(world: World, receiver: Receiver) -> None:
    await under_way(world, receiver)
    await world.api.drop("budgets", "demo", "month")
    await looked(world)
    receiver.open.set()
    await world.api.put("budgets", budget("1", "other"))
    await world.api.until(lambda: world.status("other").get("state") == "Ok")
    assert ("demo", "month") not in world.api.objects["budgets"] and world.couriers.sent == {}


async def test_another_url_is_told_of_what_was_reached_and_the_old_one_not_again(world: World) -> None:
    await secret(world)
    await running_replica(world)
    async with Receiver(*[500] * 20) as old, Receiver() as new:
        await world.api.put("budgets", told(old.url))
        await world.at(60)
        await delivered(world, "Failed")
        await world.api.put("budgets", {**told(new.url), "status": world.status()})
        (got,) = await new.until(1)
        await delivered(world, "Delivered")
        assert got.content["data"]["percent"] == 50 and len(old.got) == len(QUICK)


async def test_a_fault_of_ours_ends_the_exporter_instead_of_going_unseen(world: World) -> None:
    class Broken:
        async def send(self, *_: object, **__: object) -> None:
            raise ZeroDivisionError

    world.couriers._sender = Broken()
    ending = asyncio.create_task(world.couriers.run())
    await running_replica(world)
    await world.api.put("budgets", told("https://receiver.example/"))
    await world.at(60)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(30):
            await ending
