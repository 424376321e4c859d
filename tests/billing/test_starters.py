"""Who pays for starts: the owner, whoever woke the replica, or all that it served."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import AS_OF, HOUR, PRICES, check_sums, ledger, wake, whole_life
from tests.billing.worlds import T0, attempt, life
from zerotide.api.scalars import SECOND
from zerotide.billing.compose import cost_report
from zerotide.billing.ledger import ColdStart, Ledger, Split, folded
from zerotide.billing.rating import Period
from zerotide.billing.starters import starters
from zerotide.billing.usage import Attempt
from zerotide.billing.wakes import wake_costs

WOKEN = (
    attempt(20, 40, "demo/a", tokens=(100, 0, 300), wake_id="w1"),
    attempt(20, 40, "demo/b", tokens=(50, 0, 150), wake_id="w1", request_id="later"),
    attempt(50, 60, "demo/b", tokens=(1, 0, 0)),
)


def under(cold_start: ColdStart, attempts: tuple[Attempt, ...] = WOKEN, split: Split = Split.EQUAL) -> Ledger:
    """Return an hour with one wake under a rule."""
    made = ledger(whole_life(), attempts=attempts, wakes=(wake(),))
    return folded(replace(made.records, cold_start=cold_start, split=split), AS_OF)


def amounts(made: Ledger) -> dict[str, Decimal]:
    """Return what each consumer pays; a second costs $0.0014, a start of 20 s $0.028."""
    report = cost_report([made], PRICES, HOUR, AS_OF)
    check_sums(report)
    return {each.consumer: Decimal(each.amount) for each in report.endpoints[0].consumers}


def test_the_owner_pays_for_starts_unless_told_otherwise() -> None:
    assert starters(under(ColdStart.OWNER)) == {}
    paid = amounts(under(ColdStart.OWNER))
    assert paid["demo/smollm2"] == Decimal("0.0014") * (20 + 280 - 10 + 10)


def test_whoever_woke_it_pays_for_the_start() -> None:
    assert starters(under(ColdStart.TRIGGER)) == {"u1": {"demo/a": 1}}
    owner, trigger = amounts(under(ColdStart.OWNER)), amounts(under(ColdStart.TRIGGER))
    assert trigger["demo/a"] - owner["demo/a"] == Decimal("0.028")
    assert owner["demo/smollm2"] - trigger["demo/smollm2"] == Decimal("0.028")


def test_all_that_it_served_pay_by_their_shares() -> None:
    assert starters(under(ColdStart.PRO_RATA)) == {"u1": {"demo/a": Fraction(1, 3), "demo/b": Fraction(2, 3)}}


def test_by_tokens_a_consumer_with_twice_the_tokens_pays_twice() -> None:
    alone = WOKEN[:2]
    assert starters(under(ColdStart.PRO_RATA, alone, Split.TOKENS)) == {
        "u1": {"demo/a": pytest.approx(Fraction(2, 3)), "demo/b": pytest.approx(Fraction(1, 3))}
    }


@pytest.mark.parametrize("rule", list(ColdStart))
def test_what_nobody_asked_for_is_the_owners(rule: ColdStart) -> None:
    made = under(rule, ())
    assert starters(made) == {}
    assert set(amounts(made)) == {"demo/smollm2"}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300), st.integers(1, 60), st.integers(0, 900))),
    st.sampled_from(list(ColdStart)),
    st.sampled_from(list(Split)),
    st.integers(0, 400),
)
def test_every_rule_keeps_the_total(
    flown: list[tuple[str, int, int, int]], rule: ColdStart, split: Split, cut: int
) -> None:
    attempts = tuple(
        attempt(start, start + length, f"demo/{who}", request_id=str(number), tokens=(tokens, 0, 0), wake_id="w1")
        for number, (who, start, length, tokens) in enumerate(flown)
    )
    made, plain = under(rule, attempts, split), under(ColdStart.OWNER, attempts)
    halves = (Period(T0, T0 + cut * SECOND), Period(T0 + cut * SECOND, AS_OF))
    for period in (HOUR, *halves):
        report = cost_report([made], PRICES, period, AS_OF)
        check_sums(report)
        assert report.total == cost_report([plain], PRICES, period, AS_OF).total
    for parts in starters(made).values():
        assert sum(parts.values()) == 1


def test_a_replica_that_scaled_out_belongs_to_the_wake_during_which_it_was_made() -> None:
    second = life("u2", created=10, scheduled=10, started=12, ready=30, finished=60)
    made = ledger(whole_life(), second, attempts=WOKEN, wakes=(wake(),))
    made = folded(replace(made.records, cold_start=ColdStart.TRIGGER), AS_OF)
    assert starters(made) == {"u1": {"demo/a": 1}, "u2": {"demo/a": 1}}


@pytest.mark.parametrize("named", ["w1", "u2"])
def test_a_wake_that_was_over_before_it_had_a_name_is_paid_by_who_began_it(named: str) -> None:
    """Its requests name the wake before it, or their own pod, and the start is neither that one's nor the owner's."""
    second = life("u2", created=400, scheduled=400, started=401, ready=402, finished=460)
    quick = attempt(402, 410, "demo/b", "u2", wake_id=named)
    made = ledger(whole_life(), second, attempts=(*WOKEN, quick), wakes=(wake(), wake(400, 2, "w2")))
    made = folded(replace(made.records, cold_start=ColdStart.TRIGGER), AS_OF)
    assert starters(made) == {"u1": {"demo/a": 1}, "u2": {"demo/b": 1}}
    assert [(each.id, each.amount) for each in wake_costs(made, PRICES, HOUR)] == [
        ("w1", "0.028000"),
        ("w2", "0.002800"),
    ]


def test_whoever_waited_pays_for_a_wake_that_nobody_reported() -> None:
    for named in ("w1", "u1"):
        made = ledger(whole_life(), attempts=(attempt(20, 40, "demo/a", wake_id=named),))
        assert starters(folded(replace(made.records, cold_start=ColdStart.TRIGGER), AS_OF)) == {"u1": {"demo/a": 1}}
