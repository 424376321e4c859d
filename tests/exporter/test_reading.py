"""Only what a period needs is read, and nothing that it needs is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, life
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Settlement
from zerotide.billing.compose import cost_report
from zerotide.billing.facts import Kind
from zerotide.billing.ledger import folded
from zerotide.billing.rating import Period
from zerotide.billing.usage import OPEN_LIMIT_US
from zerotide.exporter.pricefile import load_prices
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import OpenPod

EVER = T0 + 10**10
PRICES = load_prices(None)
PODS = [f"u{number}" for number in range(4)]
seconds = st.integers(0, 200)
requests = st.lists(st.tuples(st.sampled_from([*PODS, "unseen"]), seconds, st.none() | seconds), max_size=12)


def filled(served: list[tuple[str, int, int | None]]) -> SQLiteStore:
    """Return a ledger with four pods, one after another, and these requests: pod, start, length."""
    store = SQLiteStore(Path(":memory:"))
    for number, uid in enumerate(PODS):
        born = 50.0 * number
        facts = life(uid, created=born, scheduled=born + 1, started=born + 2, finished=born + 45)
        store.add_facts([fact for fact in facts if number < 3 or fact.kind != Kind.FINISHED], 0)
    records: list[Intent | Settlement] = []
    for number, (uid, start, length) in enumerate(served):
        begin = T0 + start * SECOND
        records.append(intent(str(number), forwarded_us=begin, pod_uid=uid, consumer=f"demo/{number % 2}"))
        if length is not None:
            records.append(settlement(str(number), ended_us=begin + length * SECOND))
    store.add_usage(records, [], 0)
    return store


def costs(store: SQLiteStore, read: Period, period: Period) -> dict[str, Any]:
    """Return what a report on a period says, of the records that another one needs.

    Whether an endpoint that nothing happened to is told at all may differ.
    """
    ledgers = [folded(records, EVER) for records in store.records("demo", "smollm2", read)]
    told = cost_report(ledgers, PRICES, period, EVER).model_dump()
    happened = [each for each in told["endpoints"] if each["replicas"] or each["tokens"]["requests"]]
    return {
        "total": told["total"],
        "endpoints": [[each[key] for key in ("phases", "tokens", "consumers")] for each in happened],
    }


@given(requests, seconds, seconds)
def test_what_is_read_for_a_period_gives_the_report_of_everything(
    served: list[tuple[str, int, int | None]], one: int, other: int
) -> None:
    store = filled(served)
    period = Period(T0 + min(one, other) * SECOND, T0 + max(one, other) * SECOND + 1)
    assert costs(store, period, period) == costs(store, Period(0, EVER), period)
    store.close()


@given(requests, st.integers(0, 3 * OPEN_LIMIT_US // SECOND))
def test_what_is_settled_sees_every_request_that_may_still_be_in_flight(
    served: list[tuple[str, int, int | None]], since: int
) -> None:
    store = filled(served)
    since_us = T0 + since * SECOND
    pods = [OpenPod("c", uid, "demo", "smollm2", since_us) for uid in PODS[1:]]
    (records,) = store.pod_records(pods, since_us)
    relevant = [
        attempt
        for attempt in store.attempts()
        if attempt.pod_uid in PODS[1:] and attempt.span(EVER, OPEN_LIMIT_US).end_us >= since_us
    ]
    assert set(relevant) <= set(records.attempts)
    assert all(attempt.ended_us is None or attempt.ended_us >= since_us for attempt in records.attempts)
    store.close()


def test_old_requests_of_a_pod_are_not_read_again(store: SQLiteStore) -> None:
    store.add_facts(life("u1", scheduled=1), 0)
    for number in range(20):
        begin = T0 + number * SECOND
        store.add_usage(
            [intent(str(number), forwarded_us=begin), settlement(str(number), ended_us=begin + SECOND)], [], 0
        )
    (whole,) = store.records("demo", "smollm2", Period(T0 + 10 * SECOND, T0 + 11 * SECOND))
    assert len(whole.attempts) == 20, "a report folds the whole life of a pod"
    (rest,) = store.pod_records(store.unsettled(), T0 + 15 * SECOND)
    assert [attempt.request_id for attempt in rest.attempts] == [str(number) for number in range(14, 20)]
