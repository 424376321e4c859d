"""What is reserved of budgets in a ledger, whichever it is: never more than there is, by however many exporters."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from tests.billing.worlds import T0
from tests.exporter.test_stores import AnyStore, Open, opened, pair, server
from zerotide.billing.quotas import Hold, Holder
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey

__all__ = ["opened", "server"]

HOLD = Hold("demo", "hard", Holder("p1", "0", 5), 1, 0, T0)


def test_what_is_reserved_is_decided_with_what_is_used_and_what_others_hold(opened: Open) -> None:
    store = opened()
    store.add_usage(pair(1), [], T0)
    told: list[tuple[int, int]] = []

    def decide(usages: Sequence[Mapping[UsageKey, Usage]], others: int) -> int:
        told.append((sum(usage.input + usage.output for found in usages for usage in found.values()), others))
        return 70

    period = (Period(0, T0 + 10**12),)
    assert store.holds.reserve(HOLD, period, decide)
    other = HOLD._replace(holder=Holder("p2", "0", 6))
    assert store.holds.reserve(other, period, decide)
    assert store.holds.reserve(HOLD._replace(number=2), period, decide)
    assert not store.holds.reserve(HOLD, period, decide), "a later ask came before"
    assert store.holds.reserve(HOLD._replace(budget="soft"), (*period, Period(T0 * 2, T0 * 3)), decide)
    assert told == [(12, 0), (12, 70), (12, 70), (12, 0)]
    assert opened().holds.all() == [
        HOLD._replace(number=2, amount=70),
        other._replace(amount=70),
        HOLD._replace(budget="soft", amount=70),
    ]
    store.holds.outlive(Holder("p1", "0", 6))
    store.holds.forget([other])
    assert store.holds.all() == []


def test_what_was_renewed_is_not_forgotten(opened: Open) -> None:
    store = opened()
    for number in (1, 2):
        assert store.holds.reserve(HOLD._replace(number=number), (), lambda usages, others: 5)
    store.holds.forget([HOLD._replace(amount=5)])
    assert [hold.number for hold in store.holds.all()] == [2]
    store.holds.outlive(Holder("p1", "1", 9))
    store.holds.outlive(HOLD.holder)
    assert [hold.number for hold in store.holds.all()] == [2], "another process, and itself"


def test_two_exporters_reserve_one_after_the_other(opened: Open) -> None:
    stores = [opened(), opened()]

    def reserve(store: AnyStore, number: int) -> None:
        holder = Holder(f"p{number}", "0", 1)

        def decide(usages: Sequence[Mapping[UsageKey, Usage]], others: int) -> int:
            return 10 if others + 10 <= 100 else 0

        assert store.holds.reserve(HOLD._replace(holder=holder), (Period(0, T0),), decide)

    def many(store: AnyStore, numbers: range) -> None:
        for number in numbers:
            reserve(store, number)

    threads = [threading.Thread(target=many, args=(store, range(at, 30, 2))) for at, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(hold.amount for hold in stores[0].holds.all()) == 100
