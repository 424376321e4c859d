"""Both ledgers keep the same contract: repeatable writes, one count of everything, the same records read back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

import pytest
from sqlalchemy import create_engine, text

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life
from tests.billing.worlds import at as stamped
from tests.exporter.pgserver import database, serving
from tests.exporter.records import intent, settlement
from tests.exporter.test_reading import charged, world_of
from zerotide.api.scalars import SECOND
from zerotide.api.usage import AnyRecord, Intent, Outcome, Settlement, Unrecorded
from zerotide.billing.compose import cost_report
from zerotide.billing.facts import Fact, Kind
from zerotide.billing.fold import Phase
from zerotide.billing.keepwarm import Floor
from zerotide.billing.ledger import ColdStart, Split, Wake, folded
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, Usage, UsageKey, counted
from zerotide.billing.sealing import bucket_of
from zerotide.billing.usage import unbilled_in
from zerotide.exporter import settle as settling
from zerotide.exporter.counters import TOKENS
from zerotide.exporter.intake import AT_ONCE, read_again
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import DayKey, EndpointRecord, OpenPod, Refused

EVER = Period(0, T0 + 10**12)
ENDPOINT = EndpointRecord("e", "demo", "smollm2", T0 - 9, "demo/team", 60 * SECOND, 1, 2, T0, "Trigger", "Tokens")
WAKE = Wake("e", "w1", "demo", "smollm2", T0, "Request", 3 * SECOND, (("pull", SECOND), ("load", 2 * SECOND)))
AnyStore = SQLiteStore | PostgresStore
numbers = count()


class Open(Protocol):
    """Open one more connection to the same ledger."""

    def __call__(self) -> AnyStore: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a PostgreSQL server."""
    with serving() as address:
        yield address


def emptied(server: str) -> str:
    """Return the address of a new database."""
    name = f"ledger_{next(numbers)}"
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return database(server, name)


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return what opens a ledger that is empty at first; all are closed in the end."""
    stores: list[AnyStore] = []
    address = emptied(request.getfixturevalue("server")) if request.param == "postgres" else ""

    def open_one() -> AnyStore:
        stores.append(PostgresStore(address) if address else SQLiteStore(tmp_path / "l.sqlite", busy_timeout_s=60))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def uid(name: str) -> str:
    """Return the uid of a pod."""
    return str(uuid5(NAMESPACE_URL, name))


def lived(name: str = "u1", **times: Any) -> list[Fact]:
    """Return the facts of a pod with a real uid."""
    return life(uid(name), **times)


def pair(number: int, consumer: str = "demo/a", outcome: Outcome = Outcome.COMPLETED) -> list[Intent | Settlement]:
    """Return the records of a request that took a second."""
    start = T0 + number * SECOND
    return [
        intent(str(number), forwarded_us=start, pod_uid=uid("u1"), consumer=consumer),
        settlement(str(number), ended_us=start + SECOND, outcome=outcome),
    ]


def test_everything_is_read_back_once(opened: Open) -> None:
    store, facts = opened(), lived(scheduled=1, started=2)
    for _ in range(2):
        store.add_facts(facts, T0)
        assert store.add_usage(pair(1), [Refused(b"x", "no record")], T0) in (2, 0)
        store.add_endpoint(ENDPOINT)
        store.add_wake(WAKE)
    (records,) = store.records("", "", EVER)
    assert (records.namespace, records.endpoint, records.owner) == ("demo", "smollm2", "demo/team")
    assert (records.since_us, records.open_limit_us) == (T0 - 9, 60 * SECOND)
    assert (records.cold_start, records.split) == (ColdStart.TRIGGER, Split.TOKENS)
    assert sorted(records.facts[uid("u1")]) == sorted(facts)
    assert (records.floors, records.wakes) == ((Floor(T0, 2),), (WAKE,))
    assert list(records.attempts) == store.attempts()
    assert [(each.request_id, each.ended_us, each.output_tokens) for each in records.attempts] == [
        ("1", T0 + 2 * SECOND, 5)
    ]
    assert (store.facts(), store.refused()) == (set(facts), 1)
    assert store.unsettled() == [OpenPod("c", uid("u1"), "demo", "smollm2", 0)]
    assert set(store.living("c")) == {uid("u1")}
    assert store.owners("", "") == store.owners("demo", "smollm2") == {("demo", "smollm2"): "demo/team"}
    assert store.owners("demo", "other") == store.owners("other", "") == {}
    assert store.living("other") == {}
    (again,) = store.pod_records(store.unsettled(), T0)
    assert (again.facts, again.attempts, again.wakes) == (records.facts, records.attempts, ())


def test_what_was_not_recorded_is_told_once_where_it_ended(opened: Open) -> None:
    store, who = opened(), "demo/a"
    store.add_endpoint(ENDPOINT)
    told = [
        Unrecorded(id=each, namespace="demo", endpoint=name, consumer=who, requests=3, from_us=T0, to_us=T0 + end)
        for each, name, end in (("a", "smollm2", 5), ("b", "smollm2", 10), ("c", "other", 5))
    ]
    assert [store.add_usage([*told, *pair(1)], [], T0) for _ in range(2)] == [5, 0]

    def found(start_us: int, end_us: int) -> dict[tuple[str, str, str], int]:
        period = Period(start_us, end_us)
        (records,) = store.records("", "smollm2", period)
        assert list(records.unbilled) == store.unbilled("demo", "smollm2", period)
        return unbilled_in(records.unbilled, period)

    key = ("demo", "smollm2", who)
    assert found(T0, T0 + 11) == {key: 6}
    assert found(T0, T0 + 10) == found(T0 + 10, T0 + 11) == {key: 3}
    assert sum(each.requests for each in store.unbilled("", "", EVER)) == 9
    assert found(T0 + 11, T0 + 20) == {}


@pytest.mark.parametrize("rule", [each.value for each in ColdStart])
def test_what_is_read_for_charges_gives_the_charges_of_everything(opened: Open, rule: str) -> None:
    """Of replicas that have long been ready, that begin in the quarter, that were restarted, and of none at all."""
    store = opened()
    pods = [(0, 3, [], None), (31, None, [], None), (5, 2, [30], 50)]
    served = [(place, minute, 4, "w1" if minute < 9 else "w2") for minute in range(0, 70, 3) for place in range(4)]
    world_of(store, pods, [*served, (0, 20, None, ""), (0, 40, None, ""), (1, 1, 60, "")], rule, 1)
    read, there = 0, 0
    for number in range(5):
        start = bucket_of(T0) + number * QUARTER
        period = Period(start, start + QUARTER)
        whole, some = store.records("", "", period), store.billable("", "", period)
        assert charged(some, period) == charged(whole, period)
        assert charged(store.billable("demo", "smollm2", period), period) == charged(whole, period)
        assert store.billable("other", "", period) == []
        read += sum(len(each.attempts) for each in some)
        there += sum(len(each.attempts) for each in whole)
    assert read < there


def test_adapters_are_told_apart_in_the_bill(opened: Open) -> None:
    store = opened()
    store.add_facts(lived(scheduled=0, started=5, ready=10, finished=900), T0)
    for number, adapter in enumerate(("law", "", "support", "law")):
        begun = T0 + (100 + number) * SECOND
        asked = intent(str(number), forwarded_us=begun, pod_uid=uid("u1"), adapter=adapter)
        # In one delivery, in two, and the end before the beginning.
        ended = settlement(str(number), ended_us=begun + SECOND)
        deliveries: Sequence[list[AnyRecord]] = ([asked, ended],) if number < 2 else ([ended], [asked])
        for delivery in deliveries:
            store.add_usage(delivery, [], T0)
    assert [each.adapter for each in store.attempts()] == ["law", "", "support", "law"]
    (records,) = store.records("", "", EVER)
    (cost,) = cost_report([folded(records, T0 + 1000 * SECOND)], index(gpu()), EVER, T0 + 1000 * SECOND).endpoints
    assert [(each.adapter, each.requests, each.active_us) for each in cost.adapters] == [
        ("", 1, SECOND),
        ("law", 2, 2 * SECOND),
        ("support", 1, SECOND),
    ]


def test_what_an_older_exporter_could_not_read_is_recorded_by_one_that_can(opened: Open) -> None:
    """An outcome of a newer activator's, told while the exporter was older; and a line that nobody can read."""
    store, (begin, end) = opened(), pair(1, outcome=Outcome.OVER_BUDGET)
    lines = [Refused(end.encode(), "outcome"), Refused(b"nonsense", "no record"), Refused(begin.encode(), "adapter")]
    many = [Refused(b"%d" % number, "no record") for number in range(AT_ONCE + 7)]
    store.add_usage([], [*lines, *many], T0)
    assert read_again(store, T0 + SECOND) == 2
    (attempt,) = store.attempts()
    assert (attempt.request_id, attempt.outcome, attempt.output_tokens) == ("1", "over_budget", 5)
    assert store.refused() == len(many) + 1
    assert read_again(store, T0 + 2 * SECOND) == 0


def test_texts_are_read_back_to_the_letter(opened: Open) -> None:
    store = opened()
    odd = ("", "NULL", 'a"b', "a\\b", '\\"', "a,b", "{a}", " a ", "a\nb\t", "ä€", "%s :x", "'")
    facts = [*lived(scheduled=0), *(Fact("c", uid("u1"), Kind.BACKOFF, key, T0) for key in odd)]
    store.add_facts(facts, T0)
    assert store.facts() == set(facts)
    requests = [intent(str(number), forwarded_us=T0, pod_uid=f"u{key}") for number, key in enumerate(odd)]
    assert store.add_usage(requests, [], T0) == len(odd)
    assert {each.pod_uid for each in store.attempts()} == {f"u{key}" for key in odd}


def test_of_two_specs_of_one_second_the_newer_one_s_floor_holds(opened: Open) -> None:
    store = opened()
    store.add_facts(lived(scheduled=0, started=5, ready=10, finished=900), T0)
    for generation, floor in ((1, 0), (2, 3), (3, 0)):
        from_us = T0 if generation == 1 else T0 + 100 * SECOND
        store.add_endpoint(ENDPOINT._replace(generation=generation, floor=floor, floor_from_us=from_us))
    (records,) = store.records("", "", EVER)
    assert [each.replicas for each in records.floors] == [0, 3, 0]
    (lifetime,) = folded(records, T0 + 1000 * SECOND).lifetimes
    assert Phase.KEEP_WARM not in {segment.phase for segment in lifetime.segments}


def test_what_an_override_keeps_is_kept_warm_in_the_bill(opened: Open) -> None:
    store = opened()
    store.add_facts(lived(scheduled=0, started=5, ready=10, finished=900), T0)
    store.add_endpoint(ENDPOINT._replace(floor=0))
    clock = json.dumps({"override": {"minReplicas": 1, "until": stamped(400)}})
    for _ in range(2):
        store.add_endpoint(ENDPOINT._replace(floor=0, clock=clock))
    (records,) = store.records("", "", EVER)
    assert records.floors == (Floor(T0, 0, clock),)
    (lifetime,) = folded(records, T0 + 1000 * SECOND).lifetimes
    spent = {segment.phase: segment.length_us // SECOND for segment in lifetime.segments[-2:]}
    assert spent == {Phase.KEEP_WARM: 390, Phase.COOLDOWN: 500}


def test_records_are_chosen_by_endpoint_and_period(opened: Open) -> None:
    store = opened()
    store.add_facts([*lived(scheduled=0, finished=10), *lived("u2", created=100, scheduled=100)], T0)
    store.add_usage(pair(1), [], T0)

    def chosen(namespace: str, endpoint: str, low: float, high: float) -> list[set[str]]:
        period = Period(T0 + round(low * SECOND), T0 + round(high * SECOND))
        return [set(each.facts) for each in store.records(namespace, endpoint, period)]

    assert chosen("demo", "smollm2", 0, 5) == [{uid("u1")}]
    assert chosen("demo", "", 50, 200) == [{uid("u2")}]
    assert chosen("", "", 0, 200) == [{uid("u1"), uid("u2")}]
    assert chosen("other", "", 0, 200) == chosen("demo", "none", 0, 200) == chosen("", "", 20, 30) == []


def test_sums_and_counters_count_each_answer_once(opened: Open) -> None:
    store = opened()
    sent = [record for number in range(6) for record in pair(number, f"demo/{'ab'[number % 2]}")]
    lost = pair(9, outcome=Outcome.LOST)
    for batch in ([*sent[1::2]], [*sent[::2]], sent, lost, lost):
        store.add_usage(batch, [], T0)
    expected = counted(store.attempts())
    assert expected[UsageKey("demo", "smollm2", "demo/a")] == Usage(3, 21, 9, 15, 0)
    for period in (EVER, Period(T0 // DAY * DAY, T0 // DAY * DAY + DAY)):
        assert store.usage("", "", period) == store.usage_raw("demo", "smollm2", period) == expected
    part = Period(T0, T0 + 3 * SECOND)
    assert (
        store.usage("", "", part)
        == store.usage_raw("", "", part)
        == counted(each for each in store.attempts() if each.finished_in(*part))
    )
    assert store.usage("demo", "other", EVER) == {}
    tokens = {labels[2:]: value for (name, labels), value in store.series().items() if name == TOKENS}
    assert tokens["demo/a", "input"] == 12
    assert sum(tokens.values()) == 6 * (4 + 3 + 5)


def test_two_writers_at_once_count_everything_once(opened: Open) -> None:
    """The same deliveries by two exporters, in opposite orders, beside each other."""
    batches = [pair(number) for number in range(30)]
    failures: list[BaseException] = []

    def write(store: AnyStore, mine: Sequence[Sequence[Intent | Settlement]]) -> None:
        try:
            for batch in mine:
                store.add_usage(batch[:1], [], T0)
                store.add_usage(batch, [], T0)
        except BaseException as error:
            failures.append(error)

    one, other = opened(), opened()
    threads = [
        threading.Thread(target=write, args=(one, batches)),
        threading.Thread(target=write, args=(other, batches[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert one.usage("", "", EVER) == {UsageKey("demo", "smollm2", "demo/a"): Usage(30, 210, 90, 150, 0)}
    assert other.series()[TOKENS, ("demo", "smollm2", "demo/a", "output")] == 150


def test_time_settles_once_whoever_counts(opened: Open) -> None:
    one, other, prices = opened(), opened(), index(gpu("0.001"))
    one.add_facts(lived(scheduled=0, started=5, ready=20, finished=100), T0)
    increments = settling.due(one, prices, T0 + 60 * SECOND)
    assert other.settle(*increments)
    assert not one.settle(*increments), "somebody else has counted this"
    rest = settling.due(one, prices, T0 + 200 * SECOND)
    assert one.settle(*rest)
    assert other.unsettled() == []
    seconds = sum(value for (name, _), value in other.series().items() if name == settling.GPU_SECONDS)
    assert seconds == 100
    assert sum((value for (name, _), value in one.series().items() if name == settling.COST), Fraction(0)) == Fraction(
        "0.1"
    )
    day = T0 // DAY * DAY
    assert one.costs("", "", T0) == {DayKey("demo", "smollm2", day, "USD"): Fraction("0.1")}
    assert other.costs("demo", "smollm2", 0) == one.costs("", "", 0) != {}
    assert one.costs("demo", "other", 0) == one.costs("", "", day + DAY) == {}


def test_of_starts_only_what_was_begun_with_them_is_read(opened: Open) -> None:
    store = opened()
    store.add_endpoint(ENDPOINT)
    store.add_wake(WAKE)
    store.add_facts([*lived(scheduled=0, started=5, ready=20), *lived("u2", created=900, scheduled=900)], T0)
    store.add_usage([*pair(1), *pair(2), *pair(700)], [], T0)
    (found,) = store.starts("demo", "smollm2", Period(T0 + 2 * SECOND, T0 + 100 * SECOND))
    assert set(found.facts) == {uid("u1")}
    assert ([each.request_id for each in found.attempts], found.wakes) == (["2"], (WAKE,))
    assert store.starts("demo", "other", EVER) == []


def test_both_ledgers_bill_alike(tmp_path: Path, server: str) -> None:
    bills: list[Any] = []
    for store in (SQLiteStore(tmp_path / "l.sqlite"), PostgresStore(emptied(server))):
        store.add_endpoint(ENDPOINT)
        store.add_wake(WAKE)
        store.add_facts(lived(scheduled=0, started=5, ready=20, delete=320, finished=330), T0)
        for number in range(20, 40):
            store.add_usage(pair(number, f"demo/{number % 3}"), [], T0)
        as_of = T0 + 3600 * SECOND
        ledgers = [folded(each, as_of) for each in store.records("", "", EVER)]
        bills.append(cost_report(ledgers, index(gpu()), EVER, as_of))
        store.close()
    assert bills[0] == bills[1]
    assert bills[0].total == "0.462000"
