"""Invoices: what was sealed stays on its invoice, and all invoices together are what a fresh fold says."""

from __future__ import annotations

from datetime import UTC, tzinfo
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import ledger
from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt, life
from zerotide.api.scalars import HOUR, SECOND, parse_time
from zerotide.billing.bills import endpoint_bill
from zerotide.billing.focus import focus_report
from zerotide.billing.invoices import SealedPart, corrections_of, invoice_report, statements
from zerotide.billing.ledger import Ledger
from zerotide.billing.periods import month_of
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import DAY, QUARTER
from zerotide.billing.sealing import ChargeKey, Posted, added, charges, difference

PRICES = index(gpu("0.001"))
START = parse_time("2025-06-30T12:00:00Z")
END = START + 2 * DAY
NOON = parse_time("2025-07-01T12:00:00Z")


def lived(seconds: float, *served: tuple[float, float]) -> Ledger:
    """Return a replica that lives from ten minutes after START on, and served requests so many seconds after it."""
    shift = (START - T0) / SECOND
    facts = life(
        created=600 + shift, scheduled=600 + shift, started=610 + shift, ready=620 + shift, finished=seconds + shift
    )
    attempts = tuple(attempt(low + shift, high + shift, f"demo/{n % 2}") for n, (low, high) in enumerate(served))
    return ledger(facts, attempts=attempts, as_of=END)


def posted(*knowledge: tuple[Ledger, int], prices: PriceIndex = PRICES) -> tuple[Posted, ...]:
    """Seal what was known, each until an instant, and correct what was charged before."""
    made: list[Posted] = []
    low = START
    for known, until in knowledge:
        before = added({each.key: each.line} for each in made)
        corrections = difference(charges(known, prices, Period(START, low)), before)
        made += [Posted(low, *charge) for charge in corrections.items()]
        made += [Posted(charge[0].of_us, *charge) for charge in charges(known, prices, Period(low, until)).items()]
        low = until
    return tuple(made)


def test_without_seals_an_invoice_is_the_bill_as_it_stands() -> None:
    made = lived(40_000, (700, 800))
    report = invoice_report([made], PRICES, Period(START, END), SealedPart(), END)
    assert (report.total, report.corrections, report.sealed_until_us) == ("39.400000", (), 0)
    assert {line.phase: line.quantity for line in report.lines}["active"] == "100.000000"


def test_a_correction_within_the_period_is_part_of_its_line() -> None:
    first, later = lived(90_000), lived(80_000)
    part = SealedPart(NOON + 8 * QUARTER, posted((first, NOON), (later, NOON + 8 * QUARTER)))
    report = invoice_report([later], PRICES, Period(START, END), part, END)
    assert (report.total, report.corrections) == ("79.400000", ())


def test_a_correction_of_an_earlier_month_is_a_line_of_the_month_that_it_was_posted_in() -> None:
    first, later = lived(90_000), lived(30_000)
    part = SealedPart(NOON + 8 * QUARTER, posted((first, NOON), (later, NOON + 8 * QUARTER)))
    june, july = month_of(START), month_of(NOON)
    issued = invoice_report([first], PRICES, june, SealedPart(NOON, part.posted), END)
    again = invoice_report([later], PRICES, june, part, END)
    assert issued.total == again.total == "42.600000", "an invoice stays as it was issued"
    report = invoice_report([later], PRICES, july, part, END)
    assert report.lines == () or all(line.amount == "0.000000" for line in report.lines)
    (line,) = report.corrections
    assert (line.of_from_us, line.of_to_us) == june
    assert (line.amount, line.quantity, report.total) == ("-13.200000", "-13200.000000", "-13.200000")
    assert Decimal(again.total) + Decimal(report.total) == Decimal("29.400000")
    views = corrections_of(part.posted)
    assert len(views) > 1 and {view.posted_us for view in views} == {NOON}


def test_months_of_corrections_are_those_of_the_zone() -> None:
    first, later = lived(90_000), lived(30_000)
    part = SealedPart(NOON + 8 * QUARTER, posted((first, NOON), (later, NOON + 8 * QUARTER)))
    where = ZoneInfo("America/New_York")
    report = invoice_report([later], PRICES, month_of(NOON, where), part, END, where)
    assert {(line.of_from_us, line.of_to_us) for line in report.corrections} == {month_of(START, where)}
    assert month_of(START, where).start_us % DAY == 4 * HOUR


def test_time_is_rounded_up_once_for_each_line_of_an_invoice_not_for_each_bucket() -> None:
    prices = index(gpu("0.001"), increment="5m")
    made = lived(40_001)
    part = SealedPart(END, posted((made, END), prices=prices))
    report = invoice_report([made], prices, Period(START, END), part, END)
    whole = endpoint_bill(made, prices, Period(START, END)).lines()
    assert Decimal(report.total) == Decimal(round(sum(line.amount for line in whole.values()) * 10**6)) / 10**6


def test_charges_in_another_currency_are_named_and_on_no_invoice_of_this_one() -> None:
    """With what they come to; of the period alone, and not where they have taken each other away."""
    made = lived(40_000, (700, 900))
    part = SealedPart(END, posted((made, END)))
    euros = index(gpu("0.001"), currency="EUR")
    report = invoice_report([made], euros, Period(START, END), part, END)
    assert (report.currency, report.total, report.lines) == ("EUR", "0", ())
    assert [(each.consumer, each.currency, each.amount) for each in report.elsewhere] == [
        ("demo/0", "USD", "0.200000"),
        ("demo/smollm2", "USD", "39.200000"),
    ]
    assert invoice_report([made], PRICES, Period(START, END), part, END).elsewhere == ()
    assert invoice_report([made], euros, Period(END - DAY, END), part, END).elsewhere == ()


def test_corrections_are_such_in_focus_too() -> None:
    first, later = lived(90_000), lived(30_000)
    part = SealedPart(NOON + 8 * QUARTER, posted((first, NOON), (later, NOON + 8 * QUARTER)))
    july = month_of(NOON)
    report = focus_report([later], PRICES, july, END, "1.0", part)
    rows = [dict(zip(report.columns, row, strict=True)) for row in report.rows]
    corrections = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert [row["BilledCost"] for row in corrections] == ["-13.200000"]
    assert corrections[0]["ChargePeriodStart"] == "2025-06-30T00:00:00Z"
    assert corrections[0]["BillingPeriodStart"] == "2025-07-01T00:00:00Z"
    total = sum(Decimal(row["BilledCost"] or 0) for row in rows)
    assert total == Decimal(invoice_report([later], PRICES, july, part, END).total)


spans = st.lists(
    st.tuples(st.integers(700, 100_000), st.integers(1, 20_000)).map(lambda each: (each[0], each[0] + each[1])),
    max_size=4,
)
zones = st.sampled_from([UTC, *map(ZoneInfo, ("Europe/Rome", "Asia/Kathmandu", "America/New_York", "Pacific/Chatham"))])


@given(
    st.lists(st.tuples(st.integers(1_000, 160_000), spans, st.integers(1, 191)), min_size=1, max_size=4),
    st.lists(st.integers(0, 192), max_size=3),
    zones,
)
def test_invoices_of_any_periods_add_up_to_what_a_fresh_fold_says(
    story: list[tuple[int, list[tuple[int, int]], int]], cuts: list[int], where: tzinfo
) -> None:
    """Whatever was known when: all that is posted, and what is not sealed yet, is on one invoice."""
    steps, low = [], START
    for seconds, served, buckets in story:
        if low == END:
            break
        low = min(low + buckets * QUARTER, END)
        steps.append((lived(seconds, *served), low))
    last, until = steps[-1]
    part = SealedPart(until, posted(*steps))
    edges = sorted({START, END, *(START + cut * QUARTER for cut in cuts)})
    exact = Fraction(0)
    for begin, end in pairwise(edges):
        for statement in statements([last], PRICES, Period(begin, end), part, END):
            for side in (statement.charges, statement.corrections):
                exact += sum((line.amount for line in side.values()), Fraction(0))
        report = invoice_report([last], PRICES, Period(begin, end), part, END, where)
        parts = sum((Decimal(line.amount) for line in (*report.lines, *report.corrections)), Decimal(0))
        assert parts == Decimal(report.total)
    bill = endpoint_bill(last, PRICES, Period(START, END)).lines()
    # All corrections are posted in the last seal at the latest, and that is before END.
    assert exact == sum((line.amount for line in bill.values()), Fraction(0))


@pytest.mark.parametrize("shift", [-1, 1])
def test_edges_that_cut_a_bucket_are_folded_anew(shift: int) -> None:
    made = lived(90_000)
    part = SealedPart(END, posted((made, END)))
    edge = NOON + shift
    two = [invoice_report([made], PRICES, Period(*each), part, END) for each in ((START, edge), (edge, END))]
    assert sum(Decimal(report.total) for report in two) == Decimal("89.4")


def test_what_adds_up_to_nothing_is_no_charge() -> None:
    made = charges(lived(1000), PRICES, Period(START, END))
    nothing: dict[ChargeKey, Line] = added((made, difference({}, made)))
    assert nothing == {}
