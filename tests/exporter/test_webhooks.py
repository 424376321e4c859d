"""Webhooks of budgets: signed, once in a window over restarts, again within bounds, and beside everything else."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from tests.billing.worlds import T0
from tests.exporter.budgeting import World, budget
from tests.exporter.fakeapi import FakeApi
from tests.exporter.hooks import QUICK, delivered, deliveries, quick, receiver, running_replica, secret, told
from tests.exporter.receiver import KEY, Receiver
from zerotide.api.scalars import format_time
from zerotide.billing import thresholds
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.exporter.webhooks import sender as sender_module
from zerotide.kube import Client

__all__ = ["quick", "receiver"]


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
