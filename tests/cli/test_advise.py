"""What `zerotide plan advise` says of a replay: the sentence, the comparisons, the patch. No cluster."""

from __future__ import annotations

import pytest

from zerotide.api.endpoint import Spec
from zerotide.api.scalars import SECOND
from zerotide.billing.reports import ArrivalReport, CostReport
from zerotide.cli.advise import history_of
from zerotide.cli.advise_text import compared, patch, sentence, table
from zerotide.cli.main import main
from zerotide.scaling.advice import Advice, Option
from zerotide.scaling.hours import Hours
from zerotide.scaling.replay.simulate import Outcome, Prices

PRICES = Prices(0.001, 0.01)
NOW = Option("now: timeout 5m", Outcome(idle_s=5_000, load_s=50, waited_s=60, cold_starts=5), 300.0)
LESS = Option("timeout 10s", Outcome(idle_s=100, load_s=90, waited_s=100, cold_starts=9), 10.0)
MORE = Option("learned", Outcome(idle_s=5_100, load_s=10, waited_s=10, cold_starts=1), learned=True)
ALWAYS = Option("always on", Outcome(idle_s=9_990, load_s=10), float("inf"))
COST = CostReport(currency="USD", from_us=0, to_us=10, as_of_us=10, endpoints=(), total="0", always_on="0")


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
    assert sentence(advice(NOW), PRICES) == "Keep it as it is: of all that was tried, nothing costs less than 5.65."


def test_the_table() -> None:
    """A line for each option, and one for never sleeping."""
    lines = table(advice(LESS), PRICES)
    assert [line.split("  ")[0] for line in lines] == ["OPTION", *(o.name for o in (NOW, LESS, MORE, ALWAYS))]


def test_comparisons() -> None:
    """With a machine of one's own at the point where both cost the same, and with somebody else's API."""
    (zero,) = compared(advice(LESS), PRICES, COST, 1.8, None)
    assert zero == "It needs a replica 2% of the time; from 50% on a machine of your own is cheaper, so scale to zero."
    assert compared(advice(NOW), PRICES, COST, 1.8, None)[0].endswith("so take the machine.")
    assert "no price to hold against" in compared(advice(NOW), PRICES, COST, None, 0.6)[0]
    assert compared(advice(NOW), PRICES, COST, None, None) == []


@pytest.mark.parametrize(
    "best", [LESS, MORE, Option("hours", Outcome(), 60.0, hours=Hours(9, 8, True, "Europe/Rome"))], ids=lambda o: o.name
)
def test_the_patch_is_a_spec(best: Option) -> None:
    """What it says is what the API takes."""
    scaling = patch(best)["spec"]["scaling"]
    spec = Spec.model_validate({"model": {"uri": "image:///m"}, "scaling": scaling})
    assert spec.scaling.idle.policy == ("Learned" if best.learned else "Fixed")
    if best.hours is not None:
        (window,) = spec.scaling.schedules
        assert (window.start, window.duration, window.time_zone) == ("0 9 * * 1-5", "8h", "Europe/Rome")


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
