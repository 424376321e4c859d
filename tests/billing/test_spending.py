"""What a status says of the cost: the same as the bill, from sums."""

from __future__ import annotations

from fractions import Fraction

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life
from zerotide.api.scalars import HOUR, SECOND, parse_time
from zerotide.billing.ledger import Records, Wake, folded
from zerotide.billing.periods import month_of
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, Usage
from zerotide.billing.spending import cold_start_cost, cost_of, failed_starts_cost

LATER = T0 + HOUR
TOKENS = {"meter": "OutputTokens", "per": "Million", "validFrom": "2020-01-01T00:00:00Z"}


def at(text: str) -> int:
    """Return an instant."""
    return parse_time(text)


def nothing(period: Period) -> Usage:
    """Return the usage of an endpoint that nobody called."""
    return Usage()


def test_months_are_whole_and_follow_each_other() -> None:
    assert month_of(at("2026-12-31T23:59:59Z")) == Period(at("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z"))
    assert month_of(at("2027-01-01T00:00:00Z")).start_us == at("2027-01-01T00:00:00Z")
    assert month_of(at("2028-02-29T12:00:00Z")) == Period(at("2028-02-01T00:00:00Z"), at("2028-03-01T00:00:00Z"))


def test_the_month_adds_up_its_days_and_no_others() -> None:
    first, last = at("2026-11-01T00:00:00Z"), at("2026-11-30T00:00:00Z")
    days = {first - DAY: Fraction(100), first: Fraction(1, 3), last: Fraction(2, 3), last + DAY: Fraction(100)}
    cost = cost_of(days, nothing, index(gpu()), last + HOUR)
    assert (cost.month, cost.month_to_date, cost.day, cost.day_to_date) == (
        "2026-11",
        "1.000000",
        "2026-11-30",
        "0.666667",
    )
    assert cost.per_million_tokens is None, "nothing was answered"


def test_tokens_are_paid_at_the_price_of_their_time_and_share_the_whole_cost() -> None:
    noon = at("2026-11-25T12:00:00Z")
    prices = index(
        gpu(),
        {"name": "old", **TOKENS, "amount": "2", "validTo": "2026-11-25T12:00:00Z"},
        {"name": "new", **TOKENS, "amount": "4", "validFrom": "2026-11-25T12:00:00Z"},
    )

    def usage(period: Period) -> Usage:
        """500k tokens out in the hour before noon, as many after it."""
        before = period.start_us <= noon - HOUR and period.end_us >= noon
        after = period.start_us <= noon and period.end_us >= noon + HOUR
        return Usage(2, 0, 0, 500_000 * (before + after), 0)

    cost = cost_of({noon // DAY * DAY: Fraction(7)}, usage, prices, noon)
    assert (cost.month_to_date, cost.day_to_date) == ("10.000000", "10.000000")
    assert cost.per_million_tokens == "10.000000"


def test_a_cold_start_costs_what_its_replica_held_until_it_served() -> None:
    wake = Wake("e", "w1", "demo", "smollm2", T0, "Request", 30 * SECOND, ())
    facts = {"u1": life(created=0, scheduled=1, started=5, ready=21)}
    ledger = folded(Records("demo", "smollm2", "demo/a", T0, facts, wakes=(wake,)), LATER)
    prices = index(gpu("0.001"))
    assert cold_start_cost([ledger], prices, "w1", T0) == "0.020000"
    assert cold_start_cost([ledger], prices, "w2", T0) is None
    assert cold_start_cost([], prices, "w1", T0) is None


def test_failed_starts_cost_what_was_held_by_those_who_never_served() -> None:
    facts = {
        "u0": life("u0", created=0, scheduled=0, started=5, finished=10),
        "u1": life("u1", created=20, scheduled=20, started=21, ready=25, finished=30),
        "u2": life("u2", created=100, scheduled=100, started=105, finished=150),
        "u3": life("u3", created=200, scheduled=200, finished=230),
    }
    ledger = folded(Records("demo", "smollm2", "demo/a", T0, facts), LATER)
    burnt = failed_starts_cost([ledger], index(gpu("0.001")))
    assert (burnt.accelerator_seconds, burnt.amount) == (80, "0.080000"), "a start has succeeded after the first"
    late = failed_starts_cost([ledger], index(gpu("0.001")), T0 + 150 * SECOND)
    assert (late.accelerator_seconds, late.amount) == (30, "0.030000")
    assert failed_starts_cost([], index(gpu())).dump() == {"acceleratorSeconds": 0, "amount": "0.000000"}
