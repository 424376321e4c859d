"""What the operator is told of costs: the bill's own figures, only what changed, and nothing of what is at rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life
from tests.exporter.records import intent, settlement
from zerotide.api.cost import Cost, Spendings
from zerotide.api.scalars import HOUR, SECOND, format_time
from zerotide.billing.compose import cost_report
from zerotide.billing.ledger import Wake, folded
from zerotide.billing.periods import month_of
from zerotide.exporter import settle as settling
from zerotide.exporter.board import PACE_US, Board
from zerotide.exporter.endpoints import wake_of
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded

PRICES = index(gpu("0.001"))
KEY = ("demo", "smollm2")
STAGES = [{"name": "load", "duration": "30s"}]
WOKEN = {"id": "w1", "time": format_time(T0), "cause": "Request", "total": "30s", "stages": STAGES}


class World:
    """A ledger with a clock, and a board that a settling exporter keeps."""

    def __init__(self, reader: Threaded[Store]) -> None:
        self.reader, self.now_us = reader, T0
        self.endpoints: dict[tuple[str, str], dict[str, Any]] = {KEY: self.endpoint()}
        self.board = self.new_board()
        self.version = 0

    @staticmethod
    def endpoint(**status: Any) -> dict[str, Any]:
        """Return an endpoint with this status."""
        return {"metadata": {"namespace": KEY[0], "name": KEY[1], "uid": "e"}, "status": status}

    def new_board(self) -> Board:
        """Return the board of an exporter that has just started."""
        return Board(lambda: PRICES, lambda: self.now_us, lambda: self.endpoints, wake_of)

    async def settle(self, seconds: float) -> None:
        """Have it so many seconds after T0, and all time before it counted."""
        self.now_us = T0 + round(seconds * SECOND)
        await self.reader.run(lambda store: settling.settle(store, settling.due(store, PRICES, self.now_us)))
        await self.board.refresh(self.reader)

    async def add(self, *facts: Any) -> None:
        """Record facts."""
        await self.reader.run(lambda store: store.add_facts(facts, T0))

    def news(self) -> dict[str, tuple[Cost, bool]]:
        """Return what has changed since the last call."""
        told = self.board.news(self.board.news("", 0).epoch, self.version)
        self.version = told.version
        return {each.endpoint: (Cost.model_validate(each.cost), each.final) for each in told.endpoints}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Keep an empty ledger."""
    reader: Threaded[Store] = await Threaded.open(lambda: SQLiteStore(tmp_path / "l.sqlite"), "ledger")
    yield World(reader)
    await reader.close()


async def test_a_life_is_told_while_it_lasts_and_once_when_it_is_over(world: World) -> None:
    await world.settle(0)
    assert world.news() == {}, "nothing has run"
    await world.add(*life(scheduled=0, started=5, ready=20))
    await world.settle(30)
    (cost, final) = world.news()["demo/smollm2"]
    assert (cost.month_to_date, cost.day_to_date, final) == ("0.030000", "0.030000", False)
    assert (cost.currency, cost.month, cost.day) == ("USD", "2025-06", "2025-06-15")
    await world.settle(60)
    assert world.news() == {}, "no more than once a minute"
    await world.settle(30 + PACE_US / SECOND)
    assert world.news()["demo/smollm2"][0].month_to_date == "0.090000"
    await world.add(*life(scheduled=0, started=5, ready=20, finished=100))
    await world.settle(101)
    assert world.news()["demo/smollm2"][0].month_to_date == "0.100000"
    assert world.board.news("", 0).endpoints[0].final
    await world.settle(10 * 3600)
    assert world.news() == {}, "what is at rest is not told again"


async def test_it_is_what_the_bill_says(world: World) -> None:
    await world.add(*life(scheduled=0, started=5, ready=20, delete=320, finished=330))
    pairs = [
        each
        for n in range(4)
        for each in (
            intent(str(n), forwarded_us=T0 + (30 + n) * SECOND),
            settlement(str(n), ended_us=T0 + (31 + n) * SECOND),
        )
    ]
    await world.reader.run(lambda store: store.add_usage(pairs, [], T0))
    await world.settle(1000)
    (cost, final) = world.news()["demo/smollm2"]
    month = month_of(T0)
    records = await world.reader.run(lambda store: store.records(*KEY, month))
    (billed,) = cost_report([folded(each, world.now_us) for each in records], PRICES, month, world.now_us).endpoints
    assert final
    assert (cost.month_to_date, cost.per_million_tokens) == (billed.total, billed.per_million_tokens)
    assert cost.month_to_date == "0.330000"


async def test_a_wake_brings_its_cost_at_once(world: World) -> None:
    await world.add(*life(created=0, scheduled=1, started=5, ready=21))
    await world.settle(30)
    assert world.news()["demo/smollm2"][0].last_cold_start is None
    world.endpoints[KEY] = world.endpoint(lastWake=WOKEN)
    wake = Wake("e", "w1", *KEY, T0, "Request", 30 * SECOND, ())
    await world.reader.run(lambda store: store.add_wake(wake))
    world.board.mark(KEY)
    await world.settle(31)
    assert world.news()["demo/smollm2"][0].last_cold_start == "0.020000"


async def test_failed_starts_tell_what_they_used_up(world: World) -> None:
    """Also of a pod that had ended when the failure was told, since the kubelet ends it with its last container."""
    await world.add(*life("u0", created=-900, scheduled=-900, started=-890, ready=-880, finished=-500))
    await world.add(*life(scheduled=0, started=5, finished=50))
    world.endpoints[KEY] = world.endpoint(failedStarts={"count": 1, "since": format_time(T0 + 52 * SECOND)})
    await world.settle(60)
    failed = world.news()["demo/smollm2"][0].failed_starts
    assert failed is not None and (failed.accelerator_seconds, failed.amount) == (50, "0.050000")
    world.endpoints[KEY] = world.endpoint()
    world.board.mark(KEY)
    await world.settle(61)
    assert world.news()["demo/smollm2"][0].failed_starts is None, "a start has succeeded"


async def test_a_new_exporter_says_the_same_of_what_is_over(world: World) -> None:
    await world.add(*life(created=0, scheduled=1, started=5, ready=21, finished=90))
    world.endpoints[KEY] = world.endpoint(lastWake=WOKEN)
    wake = Wake("e", "w1", *KEY, T0, "Request", 30 * SECOND, ())
    await world.reader.run(lambda store: store.add_wake(wake))
    await world.settle(100)
    before = world.board.news("", 0).endpoints
    world.board = world.new_board()
    await world.settle(100 + 3 * 24 * 3600)
    after = world.board.news("", 0)
    assert after.endpoints == before and after.endpoints[0].cost["lastColdStart"] == "0.020000"
    assert world.board.news("another epoch", after.version) == after
    assert world.board.news(after.epoch, after.version).endpoints == ()
    assert Spendings.model_validate_json(after.encode()) == after


async def test_who_ran_over_midnight_has_two_days_and_who_is_gone_none(world: World) -> None:
    night = -(-T0 // (24 * HOUR)) * 24 * HOUR
    hours = (night - T0) / SECOND
    await world.add(*life(scheduled=hours - 100, started=hours - 90, ready=hours - 80, finished=hours + 50))
    await world.settle(hours + 60)
    (cost, _) = world.news()["demo/smollm2"]
    assert (cost.month_to_date, cost.day_to_date, cost.day) == ("0.150000", "0.050000", "2025-06-16")
    del world.endpoints[KEY]
    world.board.mark(KEY)
    await world.settle(hours + 70)
    assert world.board.news("", 0).endpoints == ()


async def test_more_than_a_round_takes_several(world: World) -> None:
    for number in range(45):
        name = f"e{number}"
        world.endpoints["demo", name] = {"metadata": {"namespace": "demo", "name": name, "uid": name}}
        facts = [fact._replace(key=fact.key.replace("smollm2", name)) for fact in life(name, scheduled=0, finished=9)]
        await world.add(*facts)
    told = []
    for number in range(4):
        await world.settle(100 + number)
        told.append(len(world.news()))
    assert told == [20, 20, 5, 0]
