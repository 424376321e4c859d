"""Reports add up on every level."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt, life, pod_facts, spans
from zerotide.api.scalars import SECOND
from zerotide.billing.compose import coldstart_report, cost_report, segment_report
from zerotide.billing.errors import InvalidPeriod
from zerotide.billing.facts import Allocation, Fact
from zerotide.billing.invoices import SealedPart, invoice_report
from zerotide.billing.keepwarm import Floor
from zerotide.billing.ledger import Ledger, Records, Wake, folded
from zerotide.billing.rating import Period
from zerotide.billing.reports import CostReport
from zerotide.billing.spans import Span
from zerotide.billing.usage import Attempt, Unbilled
from zerotide.billing.wakes import percentile

HOUR_US = 3600 * SECOND
AS_OF = T0 + HOUR_US
HOUR = Period(T0, AS_OF)
PRICES = index(
    gpu(),
    {"name": "cpu", "meter": "CPUTime", "amount": "0.04", "per": "Hour", "validFrom": "2020-01-01T00:00:00Z"},
    {"name": "out", "meter": "OutputTokens", "amount": "2", "per": "Million", "validFrom": "2020-01-01T00:00:00Z"},
)


def wake(time: float = 0, total: float = 20, wake_id: str = "w1") -> Wake:
    """Return a wake of which a quarter is provisioning and the rest loading."""
    us = round(total * SECOND)
    stages = (("provision", us // 4), ("load", us - us // 4))
    return Wake("iep-uid", wake_id, "demo", "smollm2", T0 + round(time * SECOND), "Request", us, stages)


def ledger(
    *pods: list[Fact],
    attempts: tuple[Attempt, ...] = (),
    wakes: tuple[Wake, ...] = (),
    floors: tuple[Floor, ...] = (),
    since: float = 0,
    as_of: int = AS_OF,
) -> Ledger:
    """Fold pods of one endpoint."""
    facts = {each[0].pod_uid: each for each in pods}
    records = Records("demo", "smollm2", "demo/smollm2", T0 + round(since * SECOND), facts, attempts, floors, wakes)
    return folded(records, as_of)


def whole_life(uid: str = "u1") -> list[Fact]:
    """Return a wake of 20 s, 5 minutes of life and a drain of 10 s."""
    return life(uid, created=0, scheduled=0, started=5, ready=20, delete=320, finished=330)


def test_a_bill_says_what_it_lacks() -> None:
    """By consumer on the invoice; nothing of it costs anything."""
    gaps = [("demo/a", 2, T0 + 9), ("demo/b", 1, T0 + 9), ("demo/a", 4, AS_OF)]
    known = ledger(whole_life())
    unbilled = tuple(Unbilled("demo", "smollm2", *each) for each in gaps)
    part = SealedPart(unbilled=unbilled)
    lacking = replace(known, records=replace(known.records, unbilled=unbilled))
    (whole,), (cost,) = (cost_report([each], PRICES, HOUR, AS_OF).endpoints for each in (known, lacking))
    assert (cost.tokens.unrecorded, cost.total, whole.notes) == (3, whole.total, ())
    assert cost.notes[0].startswith("3 requests or more were served and are not billed")
    invoice = invoice_report([known], PRICES, HOUR, part, AS_OF)
    assert [(each.consumer, each.requests) for each in invoice.unrecorded] == [("demo/a", 2), ("demo/b", 1)]
    assert invoice.total == whole.total


def test_an_hour_with_one_wake() -> None:
    attempts = (
        attempt(20, 40, "demo/a", tokens=(50, 0, 500_000), wake_id="w1"),
        attempt(30, 40, "demo/b", tokens=(7, 0, 500_000)),
    )
    report = cost_report([ledger(whole_life(), attempts=attempts, wakes=(wake(),))], PRICES, HOUR, AS_OF)
    (cost,) = report.endpoints
    assert {phase.phase: (phase.replica_us // SECOND, phase.amount) for phase in cost.phases} == {
        "provisioning": (5, "0.007000"),
        "loading": (15, "0.021000"),
        "active": (20, "0.028000"),
        "idle_cooldown": (280, "0.392000"),
        "draining": (10, "0.014000"),
    }
    assert (cost.tokens.requests, cost.tokens.output, cost.tokens.amount) == (2, 1_000_000, "2.000000")
    assert [(each.consumer, each.active_us // SECOND, each.requests) for each in cost.consumers] == [
        ("demo/a", 15, 1),
        ("demo/b", 5, 1),
        ("demo/smollm2", 0, 0),
    ]
    assert [(each.id, each.amount) for each in cost.wakes] == [("w1", "0.028000")]
    assert cost.total == report.total == "2.462000"
    assert cost.always_on == "5.040000", "one A100 for an hour"
    assert cost.per_million_tokens is not None
    assert Decimal(cost.per_million_tokens).quantize(Decimal("0.001")) == Decimal("2.462")
    assert cost.notes == ()
    assert CostReport.model_validate_json(report.model_dump_json(by_alias=True)) == report


def check_sums(report: CostReport) -> None:
    """Assert that every list adds up to what stands above it."""
    for cost in report.endpoints:
        phases = sum((Decimal(phase.amount) for phase in cost.phases), Decimal(cost.tokens.amount))
        consumers = sum((Decimal(each.amount) for each in cost.consumers), Decimal(0))
        assert phases == consumers == Decimal(cost.total)
        active = next((phase.replica_us for phase in cost.phases if phase.phase == "active"), 0)
        assert sum(each.active_us for each in cost.consumers) == active
    assert sum((Decimal(cost.total) for cost in report.endpoints), Decimal(0)) == Decimal(report.total)


flights = st.lists(st.tuples(st.sampled_from(["demo/a", "demo/b"]), spans, st.integers(0, 10**7)), max_size=8)


@given(pod_facts("u1"), pod_facts("u2"), flights, st.integers(0, 300), st.integers(0, 2))
def test_every_list_adds_up(
    one: list[Fact], two: list[Fact], flown: list[tuple[str, Span, int]], cut: int, floor: int
) -> None:
    attempts = tuple(
        attempt(
            (span.start_us - T0) / SECOND,
            (span.end_us - T0) / SECOND,
            who,
            f"u{number % 2 + 1}",
            request_id=str(number),
            tokens=(tokens, 0, tokens),
        )
        for number, (who, span, tokens) in enumerate(flown)
    )
    extra = [*life(scheduled=0)[3:], *[each._replace(pod_uid="u2") for each in life(scheduled=0)[3:]]]
    one, two = one + extra[:2], two + extra[2:]
    made = ledger(one, two, attempts=attempts, floors=(Floor(T0, floor),), as_of=T0 + 300)
    for period in (Period(0, T0 + 300), Period(T0 + cut, T0 + 300)):
        check_sums(cost_report([made], PRICES, period, T0 + 300))


def test_always_on_counts_from_the_endpoints_birth() -> None:
    report = cost_report([ledger(whole_life(), since=1800)], PRICES, HOUR, AS_OF)
    assert report.always_on == "2.520000"
    assert cost_report([ledger()], PRICES, HOUR, AS_OF).always_on == "0.000000"


def test_the_future_is_not_billed() -> None:
    awake = ledger(life(scheduled=0, started=1, ready=2))
    report = cost_report([awake], PRICES, Period(T0, AS_OF + 10 * HOUR_US), AS_OF)
    assert (report.to_us, report.total) == (AS_OF, "5.040000")


def test_what_is_estimated_or_unpriced_is_said() -> None:
    missed = life("u1", scheduled=0, gone=60, class_name="")
    (cost,) = cost_report([ledger(missed)], PRICES, HOUR, AS_OF).endpoints
    assert len(cost.notes) == 3
    assert "no price for AcceleratorTime" in cost.notes[0]
    assert "set accelerator.className" in cost.notes[1]
    assert "end estimated for 1 of 1 replicas" in cost.notes[2]
    default = index(gpu(), defaultAcceleratorClassName="nvidia-a100-80gb")
    (cost,) = cost_report([ledger(missed)], default, HOUR, AS_OF).endpoints
    assert (cost.accelerator, cost.total) == ("nvidia-a100-80gb", "0.084000")
    assert "billed as nvidia-a100-80gb" in cost.notes[0]


def test_a_cpu_endpoint_is_priced_by_its_cores() -> None:
    cpu = life(scheduled=0, started=1, ready=2, allocation=Allocation("", 0, 500, 0), class_name="")
    (cost,) = cost_report([ledger(cpu)], PRICES, HOUR, AS_OF).endpoints
    assert (cost.accelerator, cost.units, cost.total) == ("", 0, "0.020000")
    assert cost.phases[-1].cpu_seconds == "1799.000000"


def test_an_attempt_that_never_ended_stays_open_for_its_limit_at_most() -> None:
    open_ended = attempt(20, None)
    made = ledger(life(scheduled=0, started=1, ready=2), attempts=(open_ended,))
    (cost,) = cost_report([made], PRICES, HOUR, AS_OF).endpoints
    (active,) = [phase for phase in cost.phases if phase.phase == "active"]
    assert active.replica_us == 15 * 60 * SECOND


def test_requests_that_met_a_wake_are_counted() -> None:
    """Each once, by its first attempt, when that went to its replica; parts of a period add up to it."""
    again = attempt(30, 31, request_id="r1", wake_id="w1")._replace(number=2)
    tries = (
        attempt(20, 21, request_id="r1", wake_id="w1", outcome="lost"),
        again,
        attempt(20, 25, request_id="r2", wake_id="w1"),
        attempt(40, None, request_id="r3"),
        attempt(50, 51, request_id="r4")._replace(number=2, cold=1),
        attempt(49, 50, request_id="r4", outcome="lost"),
    )
    made = ledger(whole_life("u1"), attempts=tries)

    def counted(*period: int) -> tuple[int, int]:
        """Return requests and cold ones between two seconds after the beginning."""
        report = coldstart_report([made], PRICES, Period(*(T0 + each * SECOND for each in period)), AS_OF)
        return report.requests, report.cold_requests

    assert counted(0, 60) == (4, 2)
    assert [counted(0, 20), counted(20, 40), counted(40, 60)] == [(0, 0), (2, 2), (2, 0)]


def test_a_wake_owns_the_pod_that_its_request_waited_for() -> None:
    first, second = whole_life("u1"), life("u2", created=10, scheduled=10, started=12, ready=30, finished=60)
    told = attempt(20, 21, pod_uid="u1", wake_id="w1")
    made = ledger(first, second, attempts=(told,), wakes=(wake(), wake(9, 25, "w2"), wake(900, 5, "w3")))
    report = coldstart_report([made], PRICES, HOUR, AS_OF)
    assert [(each.id, each.amount) for each in report.wakes] == [
        ("w3", None),
        ("w2", "0.028000"),
        ("w1", "0.028000"),
    ]
    assert report.amount == "0.056000"
    assert [(stage.name, stage.p50_us) for stage in report.summary] == [
        ("provision", 5 * SECOND),
        ("load", 15 * SECOND),
        ("total", 20 * SECOND),
    ]


def test_wakes_outside_the_period_are_left_out() -> None:
    made = ledger(whole_life(), wakes=(wake(),))
    assert coldstart_report([made], PRICES, Period(T0 + 1, AS_OF), AS_OF).wakes == ()


def test_segments_are_given_uncut() -> None:
    report = segment_report([ledger(whole_life())], PRICES, Period(T0 + 100 * SECOND, T0 + 101 * SECOND), AS_OF)
    (pod,) = report.pods
    assert (pod.pod_uid, pod.accelerator, pod.units, pod.ended) == ("u1", "nvidia-a100-80gb", 1, "finished")
    allocated = sum(segment.to_us - segment.from_us for segment in pod.segments if segment.phase != "queued")
    assert allocated == pod.allocated_to_us - pod.allocated_from_us == 330 * SECOND
    later = Period(T0 + 1000 * SECOND, AS_OF)
    assert segment_report([ledger(whole_life())], PRICES, later, AS_OF).pods == ()


def test_a_period_that_runs_backwards_is_refused() -> None:
    for report in (cost_report, coldstart_report, segment_report):
        with pytest.raises(InvalidPeriod):
            report([], PRICES, Period(2, 1), AS_OF)


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 5), (90, 9), (91, 10), (100, 10)])
def test_percentiles_are_by_nearest_rank(percent: int, value: int) -> None:
    assert percentile(range(1, 11), percent) == value
    assert Fraction(percentile([7], percent)) == 7
