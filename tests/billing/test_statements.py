"""Lines, explanations, what-ifs and audits: each adds up, and an audit notices what does not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import AS_OF, HOUR, PRICES, flights, ledger, whole_life
from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt, life, pod_facts
from zerotide.api.scalars import SECOND
from zerotide.billing import audit
from zerotide.billing.audit import verification
from zerotide.billing.bills import explanation, line_report
from zerotide.billing.compose import cost_report
from zerotide.billing.facts import Fact, Kind
from zerotide.billing.fold import Segment
from zerotide.billing.ledger import ColdStart, Ledger, Split, folded
from zerotide.billing.prices import PriceIndex, as_of
from zerotide.billing.rating import Period
from zerotide.billing.spans import Span
from zerotide.billing.whatif import rate_report

ATTEMPTS = (
    attempt(20, 40, "demo/a", tokens=(50, 0, 500_000), wake_id="w1"),
    attempt(30, 40, "demo/b", tokens=(7, 0, 500_000)),
)


def served() -> Ledger:
    """Return an hour in which one replica served two consumers."""
    return ledger(whole_life(), attempts=ATTEMPTS)


def test_lines_say_what_was_used_at_which_price() -> None:
    report = line_report([served()], PRICES, HOUR, AS_OF)
    loading = next(line for line in report.lines if line.phase == "loading")
    assert (loading.consumer, loading.quantity, loading.unit) == ("demo/smollm2", "15.000000", "device-seconds")
    assert (loading.price, loading.unit_price, loading.per, loading.multiplier) == ("a100", "0.0014", "Second", "1")
    assert loading.amount == "0.021000"
    tokens = [line for line in report.lines if line.meter == "OutputTokens"]
    assert [(line.quantity, line.unit, line.amount) for line in tokens] == [("500000.000000", "tokens", "1.000000")] * 2
    assert report.total == cost_report([served()], PRICES, HOUR, AS_OF).total == "2.462000"


def test_an_explanation_goes_back_to_the_facts() -> None:
    report = explanation([served()], PRICES, HOUR, AS_OF)
    (pod,) = report.pods
    assert (pod.pod_uid, pod.ended, pod.requests) == ("u1", "finished", 2)
    assert {fact.kind for fact in pod.facts} >= {"scheduled", "started", "ready", "delete", "finished"}
    assert [fact.time_us for fact in pod.facts] == sorted(fact.time_us for fact in pod.facts)
    assert sum(Decimal(each.amount) for each in report.contributions) == Decimal(report.total) == Decimal("0.462")
    active = {each.consumer: each.quantity for each in report.contributions if each.phase == "active"}
    assert active == {"demo/a": "15.000000", "demo/b": "5.000000"}


def test_other_books_price_the_same_usage() -> None:
    dear, cheap = index(gpu("0.01", "dear")), index(gpu("0.001"), gpu("0.0005", "later", T0 + 10**15))
    books = {"dear": dear, "cheap": cheap, "none": index(), "later": PriceIndex(as_of(cheap.book, T0 + 10**15))}
    report = rate_report([served()], books, HOUR, AS_OF)
    assert [(book.book, book.total) for book in report.books] == [
        ("dear", "3.300000"),
        ("cheap", "0.330000"),
        ("none", "0.000000"),
        ("later", "0.165000"),
    ]
    assert report.books[0].unpriced == ("OutputTokens",)
    assert report.books[2].unpriced == ("OutputTokens", "nvidia-a100-80gb")


def test_prices_as_of_an_instant_hold_always() -> None:
    book = index(gpu("1"), gpu("2", "second", T0), gpu("3", "third", T0 + 5)).book
    assert [price.name for price in as_of(book, T0 + 1).prices] == ["second"]
    assert PriceIndex(as_of(book, T0 + 1)).pieces(*_A100, 0, T0 + 9)[0].price is not None
    assert as_of(book, 0).prices == ()


_A100 = (PRICES.book.prices[0].meter, "nvidia-a100-80gb")


def broken(made: Ledger, period: Period = HOUR) -> list[str]:
    """Return the laws that are broken."""
    report = verification([made], PRICES, period, AS_OF)
    assert all(check.checked == 1 for check in report.checks)
    return [check.law.partition(" ")[0] for check in report.checks if check.differences]


def test_a_sound_ledger_passes() -> None:
    report = verification([served()], PRICES, HOUR, AS_OF)
    assert (report.differences, len(report.checks)) == (0, 6)


def test_a_gap_between_segments_is_noticed() -> None:
    made = served()
    (one,) = made.lifetimes
    torn = replace(one, segments=(*one.segments[:1], *one.segments[2:]))
    assert "phases" in broken(replace(made, lifetimes=(torn,)))


def test_an_allocation_that_the_facts_do_not_give_is_noticed() -> None:
    made = served()
    (one,) = made.lifetimes
    last = one.segments[-1]
    longer = replace(
        one, end_us=one.end_us + 1, segments=(*one.segments[:-1], Segment(last.start_us, last.end_us + 1, last.phase))
    )
    assert "an" in broken(replace(made, lifetimes=(longer,)))


def test_a_fold_that_depends_on_order_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def other_each_time(*_: object, **__: object) -> int:
        calls.append(1)
        return len(calls)

    monkeypatch.setattr(audit, "fold", other_each_time)
    assert "facts" in broken(served())


def test_active_time_that_nobody_shares_is_noticed() -> None:
    assert "shares" in broken(replace(served(), flights={}))


worlds = st.tuples(pod_facts("u1"), flights, st.sampled_from(list(ColdStart)), st.sampled_from(list(Split)))


@given(worlds)
def test_every_world_keeps_every_law(world: tuple[list[Fact], list[tuple[str, Span, int]], ColdStart, Split]) -> None:
    facts, flown, cold_start, split = world
    attempts = tuple(
        attempt(
            (span.start_us - T0) / SECOND, (span.end_us - T0) / SECOND, who, request_id=str(number), tokens=(n, 0, n)
        )
        for number, (who, span, n) in enumerate(flown)
    )
    made = ledger([*facts, *life(scheduled=0)[3:]], attempts=attempts, as_of=T0 + 300)
    made = folded(replace(made.records, cold_start=cold_start, split=split), T0 + 300)
    report = verification([made], PRICES, Period(0, T0 + 300), T0 + 300)
    assert not [check for check in report.checks if check.differences]
    lines = line_report([made], PRICES, Period(0, T0 + 300), T0 + 300)
    assert lines.total == cost_report([made], PRICES, Period(0, T0 + 300), T0 + 300).total
    assert any(fact.kind == Kind.SCHEDULED for fact in made.records.facts["u1"])
