"""What `zerotide plan forecast` says. No cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.helpers import endpoint
from tests.scaling.prewarm.test_forecast import IDLE, sessions
from tests.scaling.prewarm.test_habits import MONDAY, WEEK
from zerotide.api.endpoint import ColdStarts
from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.cli.forecast import document, prices_of, row, summary
from zerotide.cli.main import main
from zerotide.scaling.prewarm.forecast import habits_of, week

COLD = ColdStarts(window=20, count=3, p50="4m", p90="5m")


def made(cold: ColdStarts | None = COLD, **scaling: Any) -> Any:
    """Return an endpoint with measured cold starts."""
    known = endpoint({"scaling": {"idle": {"timeout": "5m"}, **scaling}})
    return known.model_copy(update={"status": known.status.model_copy(update={"cold_starts": cold})})


def test_a_habit_is_told_in_local_time_with_what_it_costs() -> None:
    """Nine o'clock of UTC is ten in Rome; it starts five minutes before."""
    prices = prices_of(made(), 7.0)
    assert (prices.lead_us, prices.worth_us, prices.idle_us) == (5 * MINUTE, 28 * MINUTE, 5 * MINUTE)
    (found,) = week(habits_of(sessions(3), IDLE), prices, MONDAY + 3 * WEEK - HOUR)
    assert row(found, prices, "Europe/Rome") == [
        "Mon 2026-11-23 10:00",
        "10:01",
        "3 of 3",
        "75%",
        "09:55:00",
        "10m",
        "yes",
    ]
    told = document(found, prices)
    assert (told["start"], told["from"]) == ("2026-11-23T08:55:00Z", "2026-11-23T09:00:00Z")
    assert (told["weeks"], told["of"], told["likely"], told["worthIt"]) == (3, 3, 0.75, True)
    assert summary(made(), 6, (found,), prices) == (
        "6 requests, 1 habit in the coming week: a start ahead is worth it for 1 (scaling.prewarm.mode is Disabled)."
    )
    assert summary(made(prewarm={"mode": "Enabled"}), 6, (found,), prices).endswith("worth it for 1.")
    assert row(found, prices_of(made(), 0.1), "UTC")[-1] == "no"


def test_without_habits_it_says_so() -> None:
    """And a cold start is assumed before one was measured."""
    prices = prices_of(made(None), 7.0)
    assert prices.lead_us == 30 * SECOND
    assert summary(made(None), 1, (), prices) == (
        "1 request, 0 habits in the coming week: no hour of the week woke it in two weeks or more."
    )


@pytest.mark.parametrize("option", [("--since", "long"), ("--time-zone", "Mars/Base"), ("--waiting-worth", "0")])
def test_options_that_cannot_be(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error, before anything is asked of a cluster."""
    with pytest.raises(SystemExit) as usage:
        main(["plan", "forecast", "m", *option])
    assert usage.value.code == 2 and option[0] in capsys.readouterr().err
