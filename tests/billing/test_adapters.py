"""What the adapters of a model cost: they add up to the endpoint's total, whatever was shared or rounded."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt, life, pod_facts, spans
from zerotide.api.scalars import SECOND
from zerotide.billing.compose import endpoint_cost
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import ColdStart, Ledger, Records, Split, folded
from zerotide.billing.rating import Period
from zerotide.billing.reports import EndpointCost
from zerotide.billing.spans import Span
from zerotide.billing.usage import Attempt

OUT = {"name": "out", "meter": "OutputTokens", "amount": "2", "per": "Thousand", "validFrom": "2020-01-01T00:00:00Z"}
PRICES = index(gpu("1"), OUT)
COARSE = index(gpu("0.0014"), OUT, increment="7s")
AS_OF = T0 + 1000 * SECOND


def served(*attempts: Attempt, facts: list[Fact] | None = None, rule: ColdStart = ColdStart.OWNER) -> Ledger:
    """Fold one pod that was active as its requests say."""
    mine = facts if facts is not None else life(scheduled=0, started=10, ready=20, delete=100, finished=110)
    records = Records("demo", "smollm2", "demo/owner", T0, {"u1": mine}, attempts, cold_start=rule)
    return folded(records, AS_OF)


def by_adapter(cost: EndpointCost) -> dict[str, tuple[int, int, int, str]]:
    """Return seconds, requests, tokens out and amount of each adapter."""
    return {
        each.adapter: (each.active_us // SECOND, each.requests, each.output_tokens, each.amount)
        for each in cost.adapters
    }


def test_each_has_its_share_of_the_time_and_its_tokens() -> None:
    law = attempt(20, 60, "demo/a", tokens=(1, 0, 1000))._replace(adapter="law")
    both = attempt(40, 60, "demo/b", tokens=(1, 0, 500))._replace(adapter="support")
    plain = attempt(60, 70, "demo/b", tokens=(1, 0, 2000))
    cost = endpoint_cost(served(law, both, plain), PRICES, Period(T0, AS_OF))
    # 20 s alone and half of 20 s; half of 20 s; what is left of 110 s that were billed, and two and three and four USD.
    assert by_adapter(cost) == {
        "": (10, 1, 2000, "74.000000"),
        "law": (30, 1, 1000, "32.000000"),
        "support": (10, 1, 500, "11.000000"),
    }
    assert cost.total == "117.000000"


def test_a_start_is_that_adapters_whose_request_woke_the_replica() -> None:
    first = attempt(20, 30, "demo/a", wake_id="w")._replace(adapter="law")
    later = attempt(20.5, 30, "demo/a", wake_id="w")
    cost = endpoint_cost(served(first, later, rule=ColdStart.PRO_RATA), PRICES, Period(T0, AS_OF))
    shares = by_adapter(cost)
    assert Decimal(shares["law"][3]) == Decimal("5.25") + 20 * Decimal("0.525"), "as it shared in what was served"
    assert Decimal(shares["law"][3]) + Decimal(shares[""][3]) == Decimal(cost.total) == 110


def test_an_endpoint_without_adapters_tells_none_apart() -> None:
    assert endpoint_cost(served(attempt(20, 30)), PRICES, Period(T0, AS_OF)).adapters == ()


flights = st.lists(
    st.tuples(
        st.sampled_from(["demo/a", "demo/b", "demo/owner"]),
        st.sampled_from(["", "law", "support"]),
        spans,
        st.integers(0, 10**7),
        st.booleans(),
    ),
    max_size=8,
)


@given(pod_facts("u1"), flights, st.sampled_from(ColdStart), st.sampled_from(Split), st.integers(0, 300))
def test_they_add_up_to_the_total(
    facts: list[Fact], flown: list[tuple[str, str, Span, int, bool]], rule: ColdStart, split: Split, cut: int
) -> None:
    attempts = tuple(
        attempt(
            (span.start_us - T0) / SECOND,
            (span.end_us - T0) / SECOND,
            who,
            request_id=str(number),
            tokens=(tokens, 0, tokens),
            wake_id="w" if woken else "",
        )._replace(adapter=adapter)
        for number, (who, adapter, span, tokens, woken) in enumerate(flown)
    )
    records = Records("demo", "smollm2", "demo/owner", T0, {"u1": facts + life(scheduled=0)[3:]}, attempts)
    made = folded(replace(records, cold_start=rule, split=split), T0 + 300)
    for prices in (PRICES, COARSE):
        for period in (Period(T0, T0 + 300), Period(T0 + cut, T0 + 300)):
            cost = endpoint_cost(made, prices, period)
            assert bool(cost.adapters) == any(each.adapter for each in attempts)
            if not cost.adapters:
                continue
            assert sum((Decimal(each.amount) for each in cost.adapters), Decimal(0)) == Decimal(cost.total)
            assert sum(each.active_us for each in cost.adapters) == sum(each.active_us for each in cost.consumers)
            assert sum(each.requests for each in cost.adapters) == cost.tokens.requests
            assert sum(each.output_tokens for each in cost.adapters) == cost.tokens.output
            assert all(Decimal(each.amount) >= 0 for each in cost.adapters)
