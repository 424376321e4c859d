"""Only what a period needs is read, and nothing that it needs is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, fact, life
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Settlement
from zerotide.billing.compose import cost_report
from zerotide.billing.facts import Kind, run_key
from zerotide.billing.ledger import ColdStart, Records, Wake, folded
from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import ChargeKey, added, bucket_of, charges
from zerotide.billing.usage import OPEN_LIMIT_US
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.pricefile import load_prices
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import EndpointRecord, OpenPod

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


MINUTE = 60
minutes = st.integers(0, 70)
lives = st.lists(
    st.tuples(
        minutes,
        st.none() | st.integers(0, 30),
        st.lists(st.integers(0, 30), max_size=3),
        st.none() | st.integers(1, 50),
    ),
    min_size=1,
    max_size=3,
)
"""Replicas: when each was born, how many minutes later it was ready, was restarted, and was over."""
called = st.lists(
    st.tuples(st.integers(0, 3), minutes, st.none() | st.integers(0, 40), st.sampled_from(["", "w1", "w2"])),
    max_size=14,
)
RULES = st.sampled_from([each.value for each in ColdStart])


def world_of(
    store: SQLiteStore | PostgresStore,
    pods: Sequence[tuple[int, int | None, list[int], int | None]],
    served: Sequence[tuple[int, int, int | None, str]],
    rule: str,
    floor: int,
) -> None:
    """Write replicas, wakes and requests: of which replica, begun when, how long, and the wake that it waited for."""
    uids = [str(uuid5(NAMESPACE_URL, f"pod-{number}")) for number in range(4)]
    store.add_endpoint(
        EndpointRecord("e", "demo", "smollm2", T0, "demo/team", 30 * MINUTE * SECOND, 1, floor, T0, rule)
    )
    for number, (born, ready, restarts, over) in enumerate(pods):
        facts = life(uids[number], created=born * MINUTE, scheduled=born * MINUTE + 1, started=born * MINUTE + 10)
        facts += [fact(Kind.FINISHED, (born + over) * MINUTE, "", uids[number])] if over is not None else []
        facts += [fact(Kind.READY, (born + ready) * MINUTE, "", uids[number])] if ready is not None else []
        for run, after in enumerate(sorted(restarts), 1):
            at = (born + after) * MINUTE
            facts += [fact(Kind.EXITED, at - 30, run_key("model", run - 1), uids[number])]
            facts += [fact(Kind.STARTED, at, run_key("model", run), uids[number])]
        store.add_facts(facts, T0)
    for number, wake_id in enumerate(("w1", "w2")):
        at = T0 + number * 20 * MINUTE * SECOND
        store.add_wake(Wake("e", wake_id, "demo", "smollm2", at, "Request", 5 * MINUTE * SECOND, ()))
    records: list[Intent | Settlement] = []
    for number, (place, start, length, wake_id) in enumerate(served):
        begin, consumer = T0 + start * MINUTE * SECOND, f"demo/{number % 3}"
        records.append(intent(str(number), forwarded_us=begin, pod_uid=uids[place], consumer=consumer, wake_id=wake_id))
        if length is not None:
            records.append(settlement(str(number), ended_us=begin + length * MINUTE * SECOND))
    store.add_usage(records, [], 0)


def charged(found: Iterable[Records], period: Period) -> dict[ChargeKey, Line]:
    """Return what the buckets of a period cost."""
    return added(charges(folded(records, EVER), PRICES, period) for records in found)


@given(lives, called, RULES, st.integers(0, 2), st.integers(0, 4), st.integers(1, 2))
def test_what_is_read_for_charges_gives_the_charges_of_everything(
    pods: list[tuple[int, int | None, list[int], int | None]],
    served: list[tuple[int, int, int | None, str]],
    rule: str,
    floor: int,
    first: int,
    number: int,
) -> None:
    store = SQLiteStore(Path(":memory:"))
    world_of(store, pods, served, rule, floor)
    start = bucket_of(T0) + first * QUARTER
    period = Period(start, start + number * QUARTER)
    everything = charged(store.records("", "", Period(0, EVER)), period)
    assert charged(store.records("", "", period), period) == everything
    assert charged(store.billable("", "", period), period) == everything
    assert charged(store.billable("demo", "smollm2", period), period) == everything
    store.close()


def test_for_charges_the_past_of_a_long_life_is_not_read(store: SQLiteStore) -> None:
    """What was in flight, and what may say that the replica was ready before it was Ready."""
    served = [(0, minute, 1, "") for minute in range(60)]
    world_of(store, [(0, 3, [], None)], served, "ProRata", 0)
    start = bucket_of(T0) + 3 * QUARTER
    (records,) = store.billable("", "", Period(start, start + QUARTER))
    read = [(each.forwarded_us - T0) // SECOND // MINUTE for each in records.attempts]
    assert read[:3] == [0, 1, 2] and len(read) < 25 and min(read[3:]) > 25


def work(store: SQLiteStore, read: Callable[[], object]) -> int:
    """Return how many hundreds of steps SQLite's machine takes for something."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connected = store._db
    connected.set_progress_handler(step, 100)
    read()
    connected.set_progress_handler(None, 0)
    return steps


def test_what_a_pod_served_long_ago_costs_nothing_to_settle_or_to_seal(store: SQLiteStore) -> None:
    """The newest requests are found by their end, however many the pod has had."""
    since = T0 + 30 * 24 * 3600 * SECOND
    store.add_facts(life("u1", scheduled=1, started=2, ready=5), 0)
    period = Period(bucket_of(since), bucket_of(since) + QUARTER)
    taken = []
    for begun in (0, 2000):
        records: list[Intent | Settlement] = []
        for number in range(begun, begun + 2000):
            at = T0 + (10 + number) * SECOND
            records += [intent(str(number), forwarded_us=at), settlement(str(number), ended_us=at + SECOND)]
        store.add_usage(records, [], 0)
        pods = store.unsettled()
        settling = partial(store.pod_records, pods, since)
        taken.append((work(store, settling), work(store, partial(store.billable, "", "", period))))
    (settled, sealed), (settled_later, sealed_later) = taken
    assert settled_later < settled * 1.5 + 5 and sealed_later < sealed * 1.5 + 5


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
