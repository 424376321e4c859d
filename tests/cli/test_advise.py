"""What `zerotide plan advise` says of a replay: the sentence, the comparisons, the patch. No cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from tests.reconcile.helpers import endpoint
from zerotide.api.endpoint import Spec
from zerotide.api.scalars import SECOND
from zerotide.api.spec_scaling import Scaling
from zerotide.billing.reports import ArrivalReport, CostReport, EndpointCost, PhaseCost, TokenCost
from zerotide.cli.advise import history_of, say
from zerotide.cli.advise_text import compared, left_out, patch, sentence, table
from zerotide.cli.main import build, main
from zerotide.cli.output import Printer
from zerotide.scaling.advice import Advice, Option
from zerotide.scaling.hours import Hours
from zerotide.scaling.replay.simulate import Outcome, Prices

PRICES = Prices(0.001, 0.01)
NOW = Option("now: timeout 5m", Outcome(idle_s=5_000, load_s=50, waited_s=60, cold_starts=5), 300.0)
LESS = Option("timeout 10s", Outcome(idle_s=100, load_s=90, waited_s=100, cold_starts=9), 10.0)
MORE = Option("learned", Outcome(idle_s=5_100, load_s=10, waited_s=10, cold_starts=1), learned=True)
ALWAYS = Option("always on", Outcome(idle_s=9_990, load_s=10), float("inf"), kept=1)
COST = CostReport(currency="USD", from_us=0, to_us=10, as_of_us=10, endpoints=(), total="0", always_on="0")

BILLED = EndpointCost(
    namespace="demo",
    endpoint="a",
    accelerator="",
    units=0,
    replicas=1,
    phases=(),
    tokens=TokenCost(requests=1, input=1, cached_input=0, output=1, amount="0"),
    consumers=(),
    wakes=(),
    total="0",
    always_on="0",
    per_million_tokens="2.504",
)


def advice(best: Option) -> Advice:
    """Return advice for one option."""
    return Advice(NOW, ALWAYS, (NOW, LESS, MORE), best)


def test_the_sentence() -> None:
    """What, how much less, and what a cold start that is avoided costs."""
    assert sentence(advice(LESS), PRICES) == (
        "Take timeout 10s: 1.19 instead of 5.65 (79% less), with 9 cold starts instead of 5 and 1 m 40 s of waiting "
        "instead of 1 m 00 s."
    )
    assert sentence(advice(MORE), PRICES).endswith("; each cold start that it avoids costs 0.0150.")
    free = Option("learned", Outcome(idle_s=100, cold_starts=1), learned=True)
    assert sentence(advice(free), PRICES).endswith("; the cold starts that it avoids cost nothing more.")
    assert (
        sentence(advice(NOW), PRICES) == "Keep it as it is: of all that was tried, nothing costs much less than 5.65."
    )


def test_the_table() -> None:
    """A line for each option, and one for never sleeping."""
    lines = table(advice(LESS), PRICES)
    assert [line.split("  ")[0] for line in lines] == ["OPTION", *(o.name for o in (NOW, LESS, MORE, ALWAYS))]


def test_comparisons() -> None:
    """With a machine of one's own at the point where both cost the same, and with somebody else's API."""
    (zero,) = compared(advice(LESS), PRICES, COST, 1.8, None)
    assert zero == "It needs a replica 2% of the time; from 50% on a machine of your own is cheaper, so scale to zero."
    assert compared(advice(NOW), PRICES, COST, 1.8, None)[0].endswith("so take the machine.")
    (dear,) = compared(advice(NOW), PRICES, COST, 4.5, None)
    assert dear == (
        "It needs a replica 50% of the time; a machine of your own costs 125% of a replica that never sleeps, so scale "
        "to zero."
    )
    assert "no price to hold against" in compared(advice(NOW), PRICES, COST, None, 0.6)[0]
    cost = COST.model_copy(update={"endpoints": (BILLED,)})
    assert compared(advice(NOW), PRICES, cost, None, 0.6) == [
        "A million tokens cost 2.50 here, as billed, and 0.60 elsewhere: less elsewhere."
    ]
    assert compared(advice(NOW), PRICES, cost, None, 3.0)[0].endswith("and 3.00 elsewhere: less here.")
    assert compared(advice(NOW), PRICES, COST, None, None) == []


HOURS = Option("hours", Outcome(), 60.0, hours=Hours(9, 8, True, "Europe/Rome"))
PRESENT: list[dict[str, Any]] = [
    {},
    {"minReplicas": 1},
    {"pinnedReplicas": 1, "idle": {"policy": "Learned"}},
    {"schedules": [{"name": "own", "start": "0 8 * * *", "duration": "2h"}]},
]


@pytest.mark.parametrize("present", PRESENT, ids=lambda present: "-".join(present) or "default")
@pytest.mark.parametrize("best", [LESS, MORE, HOURS, ALWAYS], ids=lambda option: option.name)
def test_the_patch_makes_the_spec_what_was_replayed(best: Option, present: dict[str, Any]) -> None:
    """It is one that the API takes, and nothing of the present spec keeps a replica beside it."""
    before = Scaling.model_validate(present)
    change = patch(best, before)["spec"]["scaling"]
    after = Spec.model_validate({"model": {"uri": "image:///m"}, "scaling": {**present, **change}}).scaling
    assert (after.min_replicas, after.pinned_replicas) == (best.kept, 0)
    if best.kept:
        assert set(change) <= {"minReplicas", "pinnedReplicas"} and after.schedules == before.schedules
        return
    assert after.idle.policy == ("Learned" if best.learned else "Fixed")
    assert best.learned or after.idle.timeout.seconds == best.timeout_s
    windows = [(each.start, each.duration, each.time_zone) for each in after.schedules]
    assert windows == ([("0 9 * * 1-5", "8h", "Europe/Rome")] if best.hours else [])
    assert set(change) - {"idle"} <= {*present, "schedules"}, "and no more than that is changed"


def test_what_is_not_replayed_is_said() -> None:
    """Further replicas, and prewarming."""
    assert left_out(Scaling()) == [] == left_out(Scaling(min_replicas=1))
    many = Scaling.model_validate(
        {"maxReplicas": 4, "schedules": [{"name": "x", "start": "0 8 * * *", "duration": "2h", "minReplicas": 3}]}
    )
    assert left_out(many) == ["One replica is replayed, of 3 that are kept."]
    assert "Prewarming is not replayed" in left_out(Scaling.model_validate({"prewarm": {"mode": "Enabled"}}))[0]


NOW_US, DAY = 1_790_000_000 * SECOND, 86_400


def printed(
    scaling: dict[str, Any],
    days: int,
    capsys: pytest.CaptureFixture[str],
    *options: str,
    cost: CostReport = COST,
    times: Sequence[int] = (),
    status: dict[str, Any] | None = None,
) -> tuple[str, str]:
    """Return the patch and the prose for one that is asked at these times, or each quarter of an hour, until Monday."""
    midnight = NOW_US // SECOND // DAY * DAY
    known = times or range(0, days * DAY, 900)
    requests = tuple(((midnight - days * DAY + time) * SECOND, SECOND) for time in known)
    report = ArrivalReport(from_us=0, to_us=midnight * SECOND, requests=requests)
    args = build().parse_args(["plan", "advise", "a", *options])
    say(Printer(as_json=args.json), args, endpoint({"scaling": scaling}, status=status), report, cost)
    return capsys.readouterr()


def test_prices_are_those_of_the_bill(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the phase that took longest, unless others are given; a cold start is as long as they were."""
    phases = tuple(
        PhaseCost(
            phase=phase,
            replica_us=seconds * SECOND,
            accelerator_seconds="0",
            cpu_seconds="0",
            memory_gib_seconds="0",
            amount=amount,
        )
        for phase, seconds, amount in (("active", 10, "1"), ("idle", 90, "4.5"), ("blocked", 900, "0"))
    )
    cost = COST.model_copy(update={"endpoints": (BILLED.model_copy(update={"phases": phases}),), "currency": "EUR"})
    _, said = printed(
        {}, 2, capsys, cost=cost, status={"coldStarts": {"window": 20, "count": 3, "p50": "7s", "p90": "9s"}}
    )
    assert " in EUR: 0.05 for a second of a replica, " in said and "no price for it" not in said
    assert "No cold start was measured" not in said
    assert " in EUR: 0.3 for a second " in printed({}, 2, capsys, "--gpu-second", "0.3", cost=cost)[1]
    known = {"coldStarts": {"window": 20, "count": 3, "p50": "7s", "p90": "9s"}}
    document = json.loads(printed({}, 2, capsys, "--json", status=known)[0])
    assert document["options"]["always on"]["load_s"] == 7


def test_windows_are_told_in_the_zone(capsys: pytest.CaptureFixture[str]) -> None:
    """Nine to five of UTC, as they have it in Tokyo."""
    office = [day * DAY + 9 * 3_600 + step * 600 for day in range(14) for step in range(48) if day % 7 < 5]
    nights = [day * DAY + 17 * 3_600 + 1_800 + step * 2_700 for day in range(14) for step in range(19)]
    options = ("--json", "--time-zone", "Asia/Tokyo", "--gpu-second", "0.001", "--waiting-second", "0.03")
    document = json.loads(printed({}, 14, capsys, *options, times=sorted(office + nights))[0])
    (window,) = document["patch"]["spec"]["scaling"]["schedules"]
    assert (window["start"], window["duration"], window["timeZone"]) == ("0 18 * * 1-5", "8h", "Asia/Tokyo")


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The patch alone on stdout, and what it is about; what is kept now is what the advice is held against."""
    patch_, said = printed({"minReplicas": 1}, 2, capsys)
    assert said.startswith("Take learned: ") and "\nnow: always on " in said
    assert yaml.safe_load(patch_) == {"spec": {"scaling": {"minReplicas": 0, "idle": {"policy": "Learned"}}}}
    for line in (
        "Costs are those of 2.0 days, since 2026-09-19T00:00:00Z, in USD: 0.0014 for a second of a replica, and 0.01 "
        "for each second that a request waits.",
        "The learned policy would take ",
        "The price book has no price for it: 0.0014 for a second of a replica is assumed.",
        "No cold start was measured yet: 30 s is assumed.",
    ):
        assert line in said
    patch_, said = printed({"idle": {"policy": "Learned"}}, 2, capsys)
    assert patch_ == "" and said.startswith("Keep it as it is: ")
    document = json.loads(printed({"minReplicas": 1}, 2, capsys, "--json", "--waiting-second", "0.02")[0])
    assert document["present"] == "now: always on" and document["patch"]["spec"]["scaling"]["minReplicas"] == 0
    assert document["options"]["always on"]["cost"] == document["options"]["now: always on"]["cost"]
    assert document["pricePerAvoidedColdStart"] is None


def test_what_is_printed_of_too_little(capsys: pytest.CaptureFixture[str]) -> None:
    """No patch, no table: how much there is and what it takes; also where there is nothing at all."""
    for days in (0, 1):
        patch_, said = printed({}, days, capsys, "--since", "20h")
        assert days or (patch_ == "" and len(said.splitlines()) == 1 and "too little for advice" in said)
    document = json.loads(printed({}, 0, capsys, "--json")[0])
    assert "patch" not in document and document["tooLittle"].startswith("0 requests with 0 silences")


def test_the_history_begins_with_the_first_request() -> None:
    """Nobody knows what was before."""
    report = ArrivalReport(from_us=0, to_us=90 * SECOND, requests=((30 * SECOND, SECOND), (50 * SECOND, 2 * SECOND)))
    history = history_of(report)
    assert (history.begin_s, history.span_s) == (30.0, 60.0)
    assert history.arrivals.times == (0.0, 20.0) and history.arrivals.services == (1.0, 2.0)
    assert history_of(report.model_copy(update={"requests": ()})).span_s == 0


@pytest.mark.parametrize("option", [("--since", "long"), ("--time-zone", "Mars/Base"), ("--gpu-second", "0")])
def test_options_that_cannot_be(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error, before anything is asked of a cluster."""
    with pytest.raises(SystemExit) as usage:
        main(["plan", "advise", "m", *option])
    assert usage.value.code == 2 and option[0] in capsys.readouterr().err
