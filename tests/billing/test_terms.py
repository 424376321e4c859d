"""What is agreed on beside prices: commitments, free tiers, discounts and credits, by hand and by law."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import ledger
from tests.billing.test_golden import priced
from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt, life
from zerotide.api.pricebook import Term, TermType
from zerotide.api.scalars import HOUR, SECOND, format_time, parse_time
from zerotide.billing.focus import focus_report
from zerotide.billing.invoices import SealedPart, invoice_report, needed
from zerotide.billing.ledger import Ledger
from zerotide.billing.periods import month_of
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.billing.rating import Line, LineKey, Period
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import ChargeKey
from zerotide.billing.terms import Applied, Month, applied

A100 = "nvidia-a100-80gb"
MAY, JUNE, JULY, AUGUST = (parse_time(f"2025-0{month}-01T00:00:00Z") for month in (5, 6, 7, 8))
WHOLE = Period(JUNE, JULY)
SINCE = {"validFrom": "2025-01-01T00:00:00Z"}


def term(type_: str, name: str = "t", **fields: Any) -> Term:
    """Return a term."""
    return Term.model_validate({"name": name, "type": type_, **SINCE, **fields})


def held(quantity: str = "1", amount: str = "1.80", **fields: Any) -> Term:
    """Return a commitment to A100s by the hour."""
    given = {"meter": "AcceleratorTime", "acceleratorClassName": A100, "quantity": quantity, "amount": amount}
    return term("Commitment", "held", per="Hour", **given, **fields)


def used(*seconds: int, rate: str = "0.001", start: int = JUNE) -> dict[ChargeKey, Line]:
    """Return charges of consecutive buckets, each of so many device-seconds."""
    key = LineKey("demo/a", Meter.ACCELERATOR_TIME, A100, "active", "a100")
    return {
        ChargeKey(start + place * QUARTER, "demo", "smollm2", key, Fraction(1), "USD"): Line(
            Fraction(number * SECOND), number * Fraction(rate)
        )
        for place, number in enumerate(seconds)
    }


def tokens(number: int, per_million: str = "2") -> dict[ChargeKey, Line]:
    """Return a charge for tokens."""
    key = LineKey("demo/a", Meter.OUTPUT_TOKENS, "", "", "out")
    line = Line(Fraction(number), number * Fraction(per_million) / 1_000_000)
    return {ChargeKey(JUNE, "demo", "smollm2", key, Fraction(1), "USD"): line}


def month(charges: dict[ChargeKey, Line], due: str | None = None, period: Period = WHOLE) -> Month:
    """Return a month in which so much is due: by default what the charges are."""
    total = sum((line.amount for line in charges.values()), Fraction(0))
    return Month(period, charges, Decimal(due) if due else Decimal(total.numerator) / Decimal(total.denominator))


PRICES = index(gpu("0.001"))


def made(terms: Sequence[Term], *months: Month, consumer: str = "demo/a") -> list[list[Applied]]:
    """Return what terms make of a consumer's months."""
    return applied(terms, PRICES, consumer, months)


def amounts(found: list[Applied]) -> list[tuple[str, Decimal]]:
    """Return names and amounts."""
    return [(each.term.name, each.amount) for each in found]


def test_a_commitment_is_paid_for_at_all_times_and_covers_use_bucket_by_bucket() -> None:
    """One A100 at $1.80 an hour for an hour: $1.80. In four buckets 450, 900, 1800 and 0 device-seconds were used, of
    which 450, 900 and 900 are covered; the other 900 cost $0.90 on demand."""
    (found,) = made([held()], month(used(450, 900, 1800, 0), period=Period(JUNE, JUNE + HOUR)))
    assert amounts(found) == [("held", Decimal("1.800000")), ("held", Decimal("-2.250000"))]
    assert [each.quantity for each in found] == [3600, 2250], "held and used: 62.5 %"
    assert Decimal("3.15") + sum(each.amount for each in found) == Decimal("1.80") + Decimal("0.90")


def test_an_unused_commitment_costs_what_it_costs() -> None:
    """30 days of 2 A100s at $1.80: $2,592."""
    (found,) = made([held("2")], month({}))
    assert amounts(found) == [("held", Decimal("2592.000000"))]


def test_two_commitments_cover_one_after_the_other() -> None:
    """The second one covers only what the first one left."""
    second = held(amount="1").model_copy(update={"name": "more"})
    (found,) = made([held(), second], month(used(1350), period=Period(JUNE, JUNE + QUARTER)))
    assert [each.quantity for each in found] == [900, 900, 900, 450]
    assert sum(each.amount for each in found if each.amount < 0) == Decimal("-1.35")


def test_a_commitment_holds_from_its_first_instant_to_its_last() -> None:
    edge = {"validFrom": "2025-06-01T00:15:00Z", "validTo": "2025-06-01T00:30:00Z"}
    (found,) = made([held(**edge)], month(used(900, 900, 900), period=Period(JUNE, JUNE + HOUR)))
    assert [each.quantity for each in found] == [900, 900]


def test_so_many_tokens_are_free_in_each_month() -> None:
    """Of 3 million at $2 a million, one is free."""
    free = term("FreeTier", "free", meter="OutputTokens", quantity="1000000")
    assert [amounts(each) for each in made([free], month(tokens(3_000_000)), month(tokens(400_000)))] == [
        [("free", Decimal("-2.000000"))],
        [("free", Decimal("-0.800000"))],
    ]
    assert made([free], month(used(100))) == [[]], "another meter"


def test_free_time_comes_after_what_a_commitment_covers() -> None:
    free = term("FreeTier", "free", meter="AcceleratorTime", acceleratorClassName=A100, quantity="1000")
    (found,) = made([held(), free], month(used(900, 1500), period=Period(JUNE, JUNE + HOUR)))
    assert found[-1].quantity == 600, "1800 of 2400 s are covered"
    assert found[-1].amount == Decimal("-0.600000")


@pytest.mark.parametrize(
    ("due", "off"), [("100.00", "0"), ("100.01", "-0.001"), ("600.00", "-50"), ("1000.00", "-90"), ("2000.00", "-290")]
)
def test_discounts_are_of_what_lies_between_their_amounts(due: str, off: str) -> None:
    """10 % above $100, 20 % above $1000: of $2000 that is $90 and $200."""
    steps = [term("Discount", "ten", percent="10", above="100"), term("Discount", "twenty", percent="20", above="1000")]
    (found,) = made(steps, month({}, due))
    assert sum((each.amount for each in found), Decimal(0)) == Decimal(off)


def test_a_discount_may_be_of_everything() -> None:
    (found,) = made([term("Discount", "half", percent="50")], month({}, "252.00"))
    assert amounts(found) == [("half", Decimal("-126.000000"))]
    assert made([term("Discount", "half", percent="50")], month({}, "-3.00")) == [[]], "a refund has none"


def test_credits_pay_until_they_are_used_up_the_one_that_ends_first_before_the_others() -> None:
    """$30 that end in July and $50 without an end, for three months of $40."""
    credits = [
        term("Credit", "lasting", amount="50"),
        term("Credit", "ending", amount="30", validTo="2025-07-15T00:00:00Z"),
    ]
    months = [month({}, "40.00", Period(low, high)) for low, high in pairwise((MAY, JUNE, JULY, AUGUST))]
    assert [amounts(each) for each in made(credits, *months)] == [
        [("ending", Decimal(-30)), ("lasting", Decimal(-10))],
        [("lasting", Decimal(-40))],
        [],
    ]


def test_credits_that_have_ended_pay_nothing() -> None:
    ended = term("Credit", "ended", amount="30", validTo="2025-06-01T00:00:00Z")
    assert [amounts(each) for each in made([ended], month({}, "40"), month({}, "40", Period(MAY, JUNE)))] == [
        [],
        [("ended", Decimal(-30))],
    ]


def within(name: str, low: int, high: int | None, amount: str = "30") -> Term:
    """Return a credit for the quarters of an hour of June from one on, up to another."""
    ends = {"validTo": format_time(JUNE + high * QUARTER)} if high is not None else {}
    return term("Credit", name, amount=amount, validFrom=format_time(JUNE + low * QUARTER), **ends)


@pytest.mark.parametrize(
    ("low", "high", "spent"),
    [(1, 3, "0.5"), (0, 1, "0.1"), (3, None, "0.4"), (0, 2, "0.3"), (4, 9, "0"), (0, None, "1"), (-9, 1, "0.1")],
)
def test_a_credit_pays_what_was_used_while_it_held(low: int, high: int | None, spent: str) -> None:
    """Also where that is less than a month: of four quarters that cost 0.1, 0.2, 0.3 and 0.4 those that begin in it."""
    (found,) = made([within("gift", low, high)], month(used(100, 200, 300, 400)))
    assert sum((each.amount for each in found), Decimal(0)) == -Decimal(spent)


def test_credits_for_parts_of_a_month_pay_each_charge_once() -> None:
    """The first ends first and pays the second quarter; the second has the third left, the third what none has paid."""
    credits = [within("last", 0, None), within("second", 1, 3), within("first", 1, 2)]
    (found,) = made(credits, month(used(100, 200, 300, 400)))
    assert amounts(found) == [("first", Decimal("-0.2")), ("second", Decimal("-0.3")), ("last", Decimal("-0.5"))]


def test_a_credit_for_a_part_of_a_month_pays_what_other_terms_have_left_of_it() -> None:
    """A tenth is off, so of the second quarter 0.18 is due; and what a credit leaves goes on to the next month."""
    off, gift = term("Discount", "off", percent="10"), within("gift", 1, None, "0.7")
    story = [month(used(100, 200)), month(used(1000, start=JULY), period=Period(JULY, AUGUST))]
    assert [amounts(each)[-1] for each in made([off, gift], *story)] == [
        ("gift", Decimal("-0.18")),
        ("gift", Decimal("-0.52")),
    ]


def test_terms_are_of_those_that_they_name() -> None:
    credit = term("Credit", "theirs", amount="30", consumers=["demo/b"])
    assert made([credit], month({}, "40")) == [[]]
    assert made([credit], month({}, "40"), consumer="demo/b") != [[]]


money = st.decimals(0, 10_000, places=2, allow_nan=False)
some_terms = st.lists(
    st.one_of(
        st.builds(lambda q, a: held(f"{q}", f"{a}"), st.integers(0, 3), money),
        st.builds(lambda q: term("FreeTier", "free", meter="OutputTokens", quantity=f"{q}"), st.integers(0, 5_000_000)),
        st.builds(lambda p, a: term("Discount", "off", percent=f"{p}", above=f"{a}"), st.integers(0, 100), money),
        st.builds(lambda a: term("Credit", "credit", amount=f"{a}"), money),
        st.builds(
            lambda low, n, a: within("part", low, low + n, f"{a}"),
            st.integers(-3, 6),
            st.integers(1, 6),
            st.decimals(0, 5, places=2),
        ),
    ),
    max_size=6,
).map(lambda found: [each.model_copy(update={"name": f"{each.name}{n}"}) for n, each in enumerate(found)])
some_months = st.lists(
    st.tuples(st.lists(st.integers(0, 3000), max_size=6), st.integers(0, 6_000_000)), min_size=1, max_size=4
)


@given(some_terms, some_months)
def test_no_credit_is_spent_twice_and_nobody_is_paid(terms: list[Term], story: list[tuple[list[int], int]]) -> None:
    months = [month({**used(*seconds), **tokens(number)}) for seconds, number in story]
    found = made(terms, *months)
    for term_ in terms:
        if term_.type is TermType.CREDIT:
            spent = -sum((each.amount for part in found for each in part if each.term is term_), Decimal(0))
            assert 0 <= spent <= Decimal(term_.amount or 0)
    slack = Decimal("0.00001")
    for whole, part in zip(months, found, strict=True):
        assert whole.due + sum((each.amount for each in part), Decimal(0)) >= -slack
    alone = [made([each for each in terms if each.type is not TermType.CREDIT], one)[0] for one in months]
    assert [[a for a in part if a.term.type is not TermType.CREDIT] for part in found] == alone, "months are apart"


@given(some_terms, some_months)
def test_parts_of_a_commitment_and_order_of_charges_change_nothing(
    terms: list[Term], story: list[tuple[list[int], int]]
) -> None:
    months = [month({**used(*seconds), **tokens(number)}) for seconds, number in story]
    turned = [each._replace(charges=dict(reversed(list(each.charges.items())))) for each in months]
    assert made(terms, *months) == made(terms, *turned)


def lived() -> Ledger:
    """Return a replica that lived from the middle of June 2025 into July, and served a million tokens."""
    served = (attempt(100, 200, "demo/a", tokens=(0, 0, 1_000_000)),)
    return ledger(life(scheduled=0, started=5, ready=20, finished=20 * 86_400), attempts=served, as_of=AUGUST)


BOOK: dict[str, Any] = {
    "terms": [
        {"name": "off", "type": "Discount", "percent": "10", **SINCE},
        {"name": "gift", "type": "Credit", "amount": "1700", "consumers": ["demo/smollm2"], **SINCE},
        {"name": "free", "type": "FreeTier", "meter": "OutputTokens", "quantity": "250000", **SINCE},
    ]
}
OUT = priced(Meter.OUTPUT_TOKENS, "2", "Million")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Rome", "Asia/Kathmandu", "America/New_York"])
def test_invoices_of_months_add_up_to_that_of_both_in_any_zone(zone: str) -> None:
    """Credits that June has not used up go on in July."""
    prices, where = index(gpu("0.001"), OUT, **BOOK), ZoneInfo(zone)
    june, july = month_of(T0, where), month_of(JULY + 5 * 86_400 * SECOND, where)
    assert june.end_us == july.start_us
    both = Period(june.start_us, july.end_us)

    def invoice(period: Period) -> Any:
        return invoice_report([lived()], prices, period, SealedPart(), AUGUST, where)

    parts = [invoice(june), invoice(july)]
    whole = invoice(both)
    assert sum(Decimal(part.total) for part in parts) == Decimal(whole.total)
    assert [line for part in parts for line in part.terms if line.name == "gift"] == [
        line for line in whole.terms if line.name == "gift"
    ]
    assert needed(prices, july, where).start_us == month_of(parse_time("2025-01-01T00:00:00Z"), where).start_us
    for report in (*parts, whole):
        everything = [line.amount for line in report.lines] + [line.amount for line in report.terms]
        assert sum(map(Decimal, everything)) == Decimal(report.total)
    # 1,728,000 s at $0.001 and $2 for tokens; a quarter of these is free, then 10 % off, then the credit.
    spent = sum(Decimal(line.amount) for line in whole.terms if line.name == "gift")
    assert spent == -min(Decimal(1700), Decimal("0.9") * Decimal("1727.9"))
    assert [line.amount for line in whole.terms if line.name == "free"] == ["-0.500000"]


def test_terms_are_of_months_that_are_asked_for_from_their_beginning() -> None:
    prices = index(gpu("0.001"), OUT, **BOOK)
    report = invoice_report([lived()], prices, Period(T0, JULY), SealedPart(), AUGUST)
    assert report.terms == ()
    assert isinstance(prices, PriceIndex)


def test_terms_are_rows_of_focus_that_add_up_to_the_invoice() -> None:
    prices = index(gpu("0.001"), OUT, **BOOK)
    june = month_of(T0)
    report = focus_report([lived()], prices, june, AUGUST, "1.2")
    rows = [dict(zip(report.columns, row, strict=True)) for row in report.rows]
    invoice = invoice_report([lived()], prices, june, SealedPart(), AUGUST)
    assert sum(Decimal(row["BilledCost"] or 0) for row in rows) == Decimal(invoice.total)
    agreed = {row["ChargeDescription"]: row for row in rows if row["ResourceId"] is None}
    assert {name: row["ChargeCategory"] for name, row in agreed.items()} == {
        "Credit gift": "Credit",
        "Discount off": "Adjustment",
        "FreeTier free": "Adjustment",
    }
    assert agreed["Credit gift"]["SubAccountId"] == "demo/smollm2"
