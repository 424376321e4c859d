"""Deliveries share a transaction when they wait together, and each is durable before it is acknowledged."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.billing.worlds import T0
from tests.exporter.records import intent, settlement
from tests.exporter.test_stores import Open, opened, server, uid
from zerotide.api.usage import AnyRecord, Intent, Settlement
from zerotide.exporter.errors import StoreDamaged, StoreUnavailable
from zerotide.exporter.grouping import MOST, GroupCommit
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Refused, Store
from zerotide.exporter.threads import Threaded
from zerotide.kube.clock import Clock

__all__ = ["opened", "server"]


class Slow(SQLiteStore):
    """A ledger whose first write is held up, and which tells how many records each transaction had."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go, self.sizes = threading.Event(), list[int]()
        self.failure: Exception | None = None

    def add_usage(self, records: Sequence[AnyRecord], refused: Sequence[Refused], received_us: int) -> int:
        """Write once it may; a record of consumer `bad` cannot be held."""
        assert self.go.wait(30)
        self.sizes.append(len(records))
        if self.failure:
            raise self.failure
        if any(isinstance(record, Intent) and record.consumer == "demo/bad" for record in records):
            raise StoreDamaged("a record cannot be held")
        return super().add_usage(records, refused, received_us)


async def held(store: Slow, deliveries: Sequence[Sequence[Intent | Settlement]]) -> list[object]:
    """Deliver all while the first is being written; return how each ended."""
    writer: Threaded[Store] = await Threaded.open(lambda: store, "writer")
    group = GroupCommit(writer, Clock())
    tasks = [asyncio.create_task(group.add(each)) for each in deliveries]
    await asyncio.sleep(0)
    store.go.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    await writer.run(lambda _: None)
    return list(ended)


def one(number: int, consumer: str = "demo/a") -> list[Intent | Settlement]:
    """Return a delivery of one record."""
    return [intent(str(number), forwarded_us=T0, consumer=consumer)]


async def test_what_comes_while_one_is_written_is_the_next_transaction(tmp_path: Path) -> None:
    store = Slow(tmp_path / "l.sqlite")
    assert await held(store, [one(number) for number in range(9)]) == [[]] * 9
    assert sum(store.sizes) == 9 and len(store.sizes) <= 2
    assert len(store.attempts()) == 9
    store.close()


async def test_a_group_has_bounds_but_a_delivery_may_be_larger(tmp_path: Path) -> None:
    store = Slow(tmp_path / "l.sqlite")
    large = [each for number in range(MOST) for each in one(number)]
    assert await held(store, [one(MOST), large, one(MOST + 1), one(MOST + 2)]) == [[]] * 4
    assert store.sizes == [1, MOST, 2]
    store.close()


async def test_a_record_that_cannot_be_held_keeps_no_other_out(tmp_path: Path) -> None:
    store = Slow(tmp_path / "l.sqlite")
    ended = await held(store, [one(0), one(1), one(2, "demo/bad"), one(3)])
    assert [type(each) for each in ended] == [list, list, StoreDamaged, list]
    assert [each.request_id for each in store.attempts()] == ["0", "1", "3"]
    store.close()


async def test_none_is_acknowledged_while_the_ledger_takes_nothing(tmp_path: Path) -> None:
    store = Slow(tmp_path / "l.sqlite")
    store.failure = StoreUnavailable("the disk is full")
    ended = await held(store, [one(number) for number in range(4)])
    assert [type(each) for each in ended] == [StoreUnavailable] * 4
    assert store.sizes == [4] and store.attempts() == []
    store.close()


async def test_who_leaves_takes_nobody_with_it(tmp_path: Path) -> None:
    store = Slow(tmp_path / "l.sqlite")
    writer: Threaded[Store] = await Threaded.open(lambda: store, "writer")
    group = GroupCommit(writer, Clock())
    tasks = [asyncio.create_task(group.add(one(number))) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    store.go.set()
    await tasks[0]
    await tasks[2]
    assert tasks[1].cancelled()
    assert len(store.attempts()) == 3, "what was handed over is written all the same"
    await writer.close()


async def test_an_acknowledged_record_is_seen_by_others(opened: Open) -> None:
    """Many writers, each of which checks its own record by another connection once it is acknowledged."""
    writer: Threaded[Store] = await Threaded.open(opened, "writer")
    looker = await Threaded.open(opened, "looker")
    group = GroupCommit(writer, Clock())

    async def deliver(number: int) -> None:
        await group.add([intent(str(number), forwarded_us=T0, pod_uid=uid("u1"))])
        assert str(number) in {each.request_id for each in await looker.run(lambda store: store.attempts())}
        await group.add([settlement(str(number), ended_us=T0 + 5)])

    await asyncio.gather(*(deliver(number) for number in range(40)))
    assert all(each.ended_us for each in await looker.run(lambda store: store.attempts()))
    tokens = {labels[3]: value for (name, labels), value in (await looker.run(lambda store: store.series())).items()}
    assert tokens == {"input": 40 * 4, "cached_input": 40 * 3, "output": 40 * 5}
    await looker.close()
    await writer.close()


async def test_what_no_ledger_can_hold_is_set_aside_and_acknowledged(opened: Open) -> None:
    """It would be sent again for ever, and nothing that comes behind it."""
    writer: Threaded[Any] = await Threaded.open(opened, "writer")
    group = GroupCommit(writer, Clock())
    huge = intent("huge", forwarded_us=T0).model_copy(update={"attempt": 2**70})
    strict = await writer.run(lambda store: isinstance(store, PostgresStore))
    odd = intent("odd", forwarded_us=T0, pod_uid="u\x00") if strict else huge
    mixed = [*one(3), *one(4), odd, *one(5), huge.model_copy(update={"request_id": "huger"}), *one(6)]
    ended = await asyncio.gather(group.add(one(1)), group.add(mixed), group.add(one(2)))
    assert [[each.place for each in unfit] for unfit in ended] == [[], [2, 4], []]
    assert all("cannot hold" in each.error for unfit in ended for each in unfit)
    kept = await writer.run(lambda store: store.refused_lines("", 9))
    assert sorted(each.line for each in kept) == sorted(mixed[place].encode() for place in (2, 4))
    assert sorted(each.request_id for each in await writer.run(lambda store: store.attempts())) == list("123456")
    assert await group.add(mixed) == ended[1], "and so again"
    assert await writer.run(lambda store: store.refused()) == 2
    await writer.close()
