"""What is sealed stays: later truth becomes corrections, in both ledgers, whoever dies or comes late."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from fractions import Fraction

import pytest
from sqlalchemy import text

from tests.billing.test_rating import gpu, index
from tests.billing.test_terms import term
from tests.billing.worlds import T0
from tests.billing.worlds import at as stamped
from tests.exporter.records import intent, settlement
from tests.exporter.test_stores import ENDPOINT, AnyStore, Open, lived, opened, server, uid
from zerotide.api.scalars import HOUR, SECOND, parse_time
from zerotide.billing.focus import focus_report
from zerotide.billing.invoices import SealedPart, invoice_report, needed, to_fold
from zerotide.billing.ledger import folded
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import ChargeKey, Link, bucket_of
from zerotide.exporter.errors import SealRefused
from zerotide.exporter.questions import Question, answer_focus, answer_invoice
from zerotide.exporter.sealchecks import seal_checks
from zerotide.exporter.sealer import COST_CORRECTIONS, GPU_CORRECTIONS, rated, seal_due
from zerotide.exporter.sqlite import SQLiteStore

__all__ = ["opened", "server"]

START = bucket_of(T0)
PRICES = index(gpu("0.001"))
GRACE = HOUR
MONTH = parse_time("2025-06-01T00:00:00Z")
EVER = Period(START, START + 400 * QUARTER)


def at(seconds: float) -> int:
    """Return an instant in seconds after T0."""
    return T0 + round(seconds * SECOND)


def seal(store: AnyStore, now_us: int, prices: PriceIndex = PRICES, epoch: int | None = None) -> int:
    """Seal all that is due, each time as an exporter that has just started does."""
    epoch = store.seals.claim() if epoch is None else epoch
    total = 0
    while number := seal_due(store, prices, epoch, now_us, GRACE):
        total += number
    return total


def chain(store: AnyStore) -> list[Link]:
    """Return the chain as it is stored."""
    return store.seals.walk(list)


def charged(store: AnyStore, period: Period = EVER) -> dict[ChargeKey, Line]:
    """Return what was charged in all."""
    return store.seals.charged("", "", period)


def amount(lines: dict[ChargeKey, Line]) -> Fraction:
    """Return the sum of charges."""
    return sum((line.amount for line in lines.values()), Fraction(0))


def sound(store: AnyStore, now_us: int, prices: PriceIndex = PRICES) -> bool:
    """Tell whether the chain is whole and all that is sealed is what a fresh fold says."""
    return not any(check.differences for check in seal_checks(store, prices, "", "", EVER, now_us))


def test_buckets_are_sealed_once_they_are_old_enough(opened: Open) -> None:
    store = opened()
    assert seal(store, at(0)) == 0, "there is nothing to bill"
    store.add_facts(lived(scheduled=0, started=5, ready=20, delete=1700, finished=1800), T0)
    assert seal(store, START + QUARTER + GRACE - 1) == 0
    assert seal(store, START + QUARTER + GRACE) == 1
    assert amount(charged(store)) == Fraction(START + QUARTER - T0, SECOND) / 1000
    assert seal(store, at(3 * 3600)) == 7
    assert amount(charged(store)) == Fraction("1.8")
    assert [len(link.rows) > 0 for link in chain(store)] == [True, True, True, *[False] * 5]
    assert [link.seal.number for link in chain(store) if link.seal] == list(range(1, 9))
    assert sound(store, at(3 * 3600))
    assert not any(name in (COST_CORRECTIONS, GPU_CORRECTIONS) for name, _ in store.series())


def test_a_late_end_becomes_a_correction_in_the_bucket_that_is_open_then(opened: Open) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_facts(lived(scheduled=0, started=5, ready=20), T0)
    seal(store, now)
    before = chain(store)
    store.add_facts(lived(scheduled=0, started=5, ready=20, delete=1700, finished=1800), now)
    assert sound(store, now), "what is noted as late is no difference"
    assert seal(store, now + QUARTER) == 1
    assert chain(store)[: len(before)] == before, "what was sealed is byte for byte what it was"
    last = chain(store)[-1]
    assert {row[0] for row in last.rows} == {START + n * QUARTER for n in range(2, len(before))}
    assert charged(store) == rated(store, PRICES, "", "", EVER, now)
    assert amount(charged(store)) == Fraction("1.8")
    series = {labels[3:]: value for (name, labels), value in store.series().items() if name == GPU_CORRECTIONS}
    phases = {labels[2:]: value for (name, labels), value in store.series().items() if name == COST_CORRECTIONS}
    assert set(series) == {("nvidia-a100-80gb", "minus"), ("nvidia-a100-80gb", "plus")}
    assert phases["USD", "draining", "plus"] == Fraction("0.1")
    assert seal(store, now + QUARTER) == 0
    assert store.seals.late() == []


def test_of_a_delivery_only_pods_with_something_new_are_noted_as_late(opened: Open) -> None:
    """By the quarter of an hour of their birth; again each time, since what was noted before may be read already."""
    store, now = opened(), at(3 * 3600)
    one, two = (lived(f"u{n}", created=n * 1000, scheduled=n * 1000, started=n * 1000 + 5) for n in (1, 2))
    store.add_facts([*one, *two], T0)
    assert store.seals.late() == [], "nothing is sealed"
    seal(store, now)
    ready, ended = (lived(f"u{n}", created=n * 1000, scheduled=n * 1000, ready=n * 1000 + 20) for n in (1, 2))
    store.add_facts([*one, *two], now)
    assert store.seals.late() == []
    fresh = lived("u3", created=3 * 3600, scheduled=3 * 3600)
    store.add_facts([*one, *ended, *fresh], now)
    born = bucket_of(at(2000))
    assert [(each.since_us, each.number) for each in store.seals.late()] == [(born, 0)]
    store.add_facts([*two, *ended], now)
    assert [each.number for each in store.seals.late()] == [0]
    store.add_facts([*ready, *lived("u2", created=2000, scheduled=2000, delete=2100)], now)
    noted = [(each.namespace, each.endpoint, each.since_us, each.number) for each in store.seals.late()]
    assert noted == [("demo", "smollm2", bucket_of(at(1000)), 0), ("demo", "smollm2", born, 1)]


def test_an_invoice_folds_what_is_not_sealed_and_says_what_a_fold_of_everything_says(opened: Open) -> None:
    """Also with a credit that has held since long before there was anything; and FOCUS says the same."""
    store, now = opened(), at(3 * 3600)
    store.add_endpoint(ENDPOINT._replace(cold_start="Owner", split="Equal"))
    store.add_facts([*lived(scheduled=0, started=5, ready=20), *lived("u2", scheduled=9, ready=20, finished=900)], T0)
    for number, begun in enumerate((30, 600, 9000, 10000)):
        begin = intent(str(number), forwarded_us=at(begun), pod_uid=uid("u1"), consumer=f"demo/{number % 2}")
        store.add_usage([begin, settlement(str(number), ended_us=at(begun + 60))], [], now)
    seal(store, now)
    credit = term("Credit", "welcome", amount="2.5", consumers=["demo/team"], validFrom="2001-05-01T00:00:00Z")
    prices = PriceIndex(PRICES.book.model_copy(update={"terms": (credit,)}))
    head = store.seals.head()
    assert head is not None and head.end_us < now
    amid = START + 3 * QUARTER + 100 * SECOND
    for period, low in (
        (Period(MONTH, now), head.end_us),
        (Period(at(100), now), at(100)),
        (Period(START, head.end_us), head.end_us),
        (Period(START, amid), START + 3 * QUARTER),
        (Period(MONTH, amid), START + 3 * QUARTER),
    ):
        read = needed(prices, period)
        assert read.start_us == parse_time("2001-05-01T00:00:00Z")
        part = SealedPart(head.end_us, tuple(store.seals.posted("", "", read)))
        assert to_fold(part, period, read) == Period(low, period.end_us)
        whole = [folded(records, now) for records in store.records("", "", read)]
        question = Question("", "", period, now)
        invoice = answer_invoice(store, prices, question, time_zone="UTC")
        assert invoice == invoice_report(whole, prices, period, part, now)
        focus = answer_focus(store, prices, question, version="1.2")
        assert focus == focus_report(whole, prices, period, now, "1.2", part)
        assert [line.amount for line in invoice.terms] == (["-2.5"] if period.start_us == MONTH else [])


def test_requests_that_come_late_are_charged_to_their_consumer(opened: Open) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_endpoint(ENDPOINT._replace(cold_start="Owner", split="Equal"))
    store.add_facts(lived(scheduled=0, started=5, ready=20, finished=1800), T0)
    seal(store, now)
    store.add_usage([intent(forwarded_us=at(100), pod_uid=uid("u1"))], [], now)
    seal(store, now + QUARTER)
    by_consumer = {key.line.consumer: line for key, line in charged(store).items() if key.line.phase == "active"}
    assert by_consumer["demo/a"].quantity == 60 * SECOND, "as long as a request may take"
    store.add_usage([settlement(ended_us=at(110))], [], now)
    seal(store, now + 2 * QUARTER)
    by_consumer = {key.line.consumer: line for key, line in charged(store).items() if key.line.phase == "active"}
    assert by_consumer["demo/a"].quantity == 10 * SECOND
    assert sound(store, now)


@pytest.mark.parametrize("rule", ["Trigger", "ProRata"])
def test_whoever_pays_for_a_start_may_come_long_after_it(opened: Open, rule: str) -> None:
    """A model that takes hours to load: its start is sealed before the first request is served."""
    store = opened()
    store.add_endpoint(ENDPOINT._replace(cold_start=rule))
    store.add_facts(lived(scheduled=0, started=5, ready=9000), T0)
    seal(store, at(8000))
    assert {key.line.consumer for key in charged(store)} == {"demo/team"}
    woken = intent(forwarded_us=at(9001), pod_uid=uid("u1")).model_copy(update={"wake_id": "w9", "cold": True})
    store.add_usage([woken, settlement(ended_us=at(9010))], [], at(9020))
    seal(store, at(9100))
    assert {key.line.consumer for key in charged(store)} == {"demo/a"}
    assert sound(store, at(9100))


def test_what_prices_say_later_is_corrected_from_the_date_that_they_give(opened: Open) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_facts(lived(scheduled=0, started=5, ready=20, finished=1800), T0)
    seal(store, now)
    dearer = index(gpu("0.001"), gpu("0.003", "raised", at(1500)))
    later = index(gpu("0.001"), gpu("0.003", "raised", at(1500)), gpu("0.009", "much later", at(10**6)))
    seal(store, now + QUARTER, dearer)
    assert amount(charged(store)) == Fraction("1.5") + Fraction("0.9")
    assert {key.of_us for key in charged(store) if key.line.price == "raised"} == {bucket_of(at(1500))}
    rows = len(chain(store)[-1].rows)
    assert rows > 0
    seal(store, now + 2 * QUARTER, later)
    assert chain(store)[-1].rows == [], "prices of a time to come change nothing"
    assert sound(store, now, later)


def test_rules_of_a_newer_spec_are_corrected_too(opened: Open) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_endpoint(ENDPOINT)
    store.add_facts(lived(scheduled=0, started=5, ready=20, finished=1800), T0)
    seal(store, now)
    store.add_endpoint(ENDPOINT)
    assert store.seals.late() == [], "nothing new was said"
    store.add_endpoint(ENDPOINT._replace(owner="demo/other", generation=2, floor=0, floor_from_us=at(100)))
    seal(store, now + QUARTER)
    assert {key.line.consumer for key in charged(store)} == {"demo/other"}
    assert sound(store, now)


def test_a_schedule_that_is_told_late_is_corrected_too(opened: Open) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_endpoint(ENDPOINT._replace(floor=0))
    store.add_facts(lived(scheduled=0, started=5, ready=10, finished=900), T0)
    seal(store, now)
    clock = json.dumps({"override": {"minReplicas": 1, "until": stamped(10_000)}})
    for _ in range(2):
        store.add_endpoint(ENDPOINT._replace(floor=0, clock=clock))
        seal(store, now := now + QUARTER)
        assert store.seals.late() == []
    kept = {key: line for key, line in charged(store).items() if key.line.phase == "idle_keep_warm"}
    let_go = {key: line for key, line in charged(store).items() if key.line.phase == "idle_cooldown"}
    assert (amount(kept), amount(let_go)) == (Fraction("0.89"), Fraction(0))
    assert sound(store, now)


def test_a_pod_that_nobody_had_seen_is_charged_when_it_becomes_known(opened: Open) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_facts(lived(scheduled=0, finished=60), T0)
    seal(store, now)
    store.add_facts(lived("u2", created=100, scheduled=100, finished=200), now)
    seal(store, now + QUARTER)
    assert amount(charged(store)) == Fraction("0.16")
    assert sound(store, now)


def test_after_a_long_absence_days_are_sealed_one_by_one(opened: Open) -> None:
    store = opened()
    store.add_facts(lived(scheduled=0, finished=200_000), T0)
    epoch = store.seals.claim()
    assert [seal_due(store, PRICES, epoch, at(260_000), GRACE) for _ in range(4)] == [96, 96, 93, 0]
    assert amount(charged(store)) == 200
    assert sound(store, at(260_000))


def test_two_that_seal_seal_once_and_an_old_epoch_is_refused_by_the_ledger(opened: Open) -> None:
    one, other, now = opened(), opened(), at(3 * 3600)
    one.add_facts(lived(scheduled=0, finished=1800), T0)
    old = one.seals.claim()
    assert seal(one, at(5000), epoch=old) == 2
    new = other.seals.claim()
    with pytest.raises(SealRefused, match="another exporter seals since"):
        seal(one, now, epoch=old)
    assert seal(other, now, epoch=new) == 6
    assert seal(one, now, epoch=old) == 0, "there is nothing left to be refused"
    assert sound(one, now)
    assert [link.seal.epoch for link in chain(one) if link.seal] == [old] * 2 + [new] * 6


def connected(store: AnyStore, query: str) -> None:
    """Change a ledger behind its back."""
    if isinstance(store, SQLiteStore):
        with closing(sqlite3.connect(store._path)) as file, file:
            file.executescript(query)
    else:
        with store._engine.begin() as db:
            db.execute(text(query))


TAMPERED = {
    "UPDATE charge SET amount = '1/7' WHERE bucket_us = {0}": "2025-06-15T15:15:00Z (seal 2) was changed",
    "UPDATE charge SET consumer = 'demo/b' WHERE bucket_us = {0}": "2025-06-15T15:15:00Z (seal 2) was changed",
    "DELETE FROM charge WHERE bucket_us = {0}": "2025-06-15T15:15:00Z (seal 2) was changed",
    "DELETE FROM seal WHERE bucket_us = {0}": "2025-06-15T15:15:00Z holds charges that no seal covers",
    "UPDATE seal SET hash = 'f' || substr(hash, 2) WHERE bucket_us = {0}": "2025-06-15T15:15:00Z (seal 2) was changed",
}


@pytest.mark.parametrize("change", TAMPERED)
def test_what_is_changed_in_the_ledger_is_refused_and_found(opened: Open, change: str) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_facts(lived(scheduled=0, started=5, ready=20, finished=1800), T0)
    seal(store, now)
    query = change.format(START + QUARTER)
    with pytest.raises(Exception, match="what is sealed never changes"):
        connected(store, query)
    table = query.split()[1 if query.startswith("UPDATE") else 2]
    if isinstance(store, SQLiteStore):
        connected(store, f"DROP TRIGGER {table}_no_update; DROP TRIGGER {table}_no_delete; {query}")
    else:
        connected(store, f"DROP TRIGGER {table}_stays ON {table}; {query}")
    whole, _ = seal_checks(store, PRICES, "", "", EVER, now)
    assert whole.differences[0].startswith(f"bucket {TAMPERED[change]}")


def test_facts_that_were_changed_no_longer_explain_what_is_sealed(opened: Open) -> None:
    store, now = opened(), at(3 * 3600)
    store.add_facts(lived(scheduled=0, started=5, ready=20, finished=1800), T0)
    seal(store, now)
    connected(store, f"UPDATE fact SET t_us = {at(900)} WHERE kind = 'finished'")
    whole, charges = seal_checks(store, PRICES, "", "", EVER, now)
    assert whole.differences == ()
    assert len(charges.differences) == 2
    assert charges.differences[0].startswith("bucket 2025-06-15T15:15:00Z, endpoint demo/smollm2, consumer demo/")
