"""Verdicts: when they hold, and what requests notice of a change."""

from __future__ import annotations

from typing import Any

from zerotide.activator.admission.budgets import SILENT_US, Budgets, Pulse
from zerotide.activator.admission.naming import Name
from zerotide.api.budget import Budget
from zerotide.api.scalars import parse_time

END = "2026-12-01T00:00:00Z"


def budget(
    action: str | None = "Block", name: str = "month", spec: dict[str, Any] | None = None, **status: Any
) -> Budget:
    """Return a budget of the namespace demo with this status, and `spec` beside its limit."""
    limit = {"type": "Tokens", "tokens": 5}
    told = {"action": action, "windowEnd": END, **status} if action else status
    metadata = {"namespace": "demo", "name": name, "generation": 1}
    return Budget.parse({"metadata": metadata, "spec": {"limit": limit, **(spec or {})}, "status": told, **KIND})


KIND = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget"}


def test_a_verdict_ends_with_its_window() -> None:
    budgets = Budgets()
    assert budgets.set(budget())
    (verdict,) = budgets.bearing("demo", "m", "demo/a")
    assert verdict.forbids(False, parse_time(END) - 1)
    assert not verdict.forbids(True, parse_time(END))


def test_only_what_a_request_would_notice_is_a_change() -> None:
    budgets = Budgets()
    assert not budgets.set(budget("Notify", message="half"))
    assert not budgets.set(budget(None))
    assert budgets.set(budget("DenyWake"))
    assert not budgets.set(budget("DenyWake"))
    assert budgets.set(budget("Block"))
    assert budgets.remove(Name("demo", "month"))
    assert not budgets.remove(Name("demo", "month"))
    assert budgets.bearing("demo", "m", "demo/a") == ()


def test_a_total_says_that_it_must_be_raised() -> None:
    budgets = Budgets()
    budgets.set(budget(windowEnd=None, message="5 tokens of 5 tokens are used up (100 %)"))
    (verdict,) = budgets.bearing("demo", "m", "demo/a")
    assert verdict.forbids(False, 2**62)
    assert verdict.rejection().message == (
        "budget month of namespace demo: 5 tokens of 5 tokens are used up (100 %); "
        "requests are refused until it is raised"
    )


DENY = {"onLedgerFailure": "Deny"}
SAID = "2026-11-25T10:00:00Z"
NOW = parse_time(SAID)


def pulse(budgets: Budgets) -> Pulse:
    """Return the one by which a request knows."""
    (found,) = budgets.pulses("demo", "m", "demo/a")
    return found


def test_a_word_is_good_for_a_minute_by_the_clock_of_who_hears_it() -> None:
    budgets = Budgets()
    assert budgets.set(budget(None, spec=DENY, updateTime=SAID), NOW + 5)
    assert not pulse(budgets).silent(NOW + SILENT_US) and pulse(budgets).silent(NOW + SILENT_US + 1)
    later = NOW + 10 * SILENT_US
    assert not budgets.set(budget(None, spec=DENY, updateTime=SAID), later), "a list of what is there says nothing new"
    assert pulse(budgets).silent(later)
    assert not budgets.set(budget(None, spec=DENY, updateTime="2026-11-25T10:00:20Z"), later)
    assert not pulse(budgets).silent(later + SILENT_US)


def test_what_was_never_said_is_not_known() -> None:
    budgets = Budgets()
    budgets.set(budget(None, spec=DENY), NOW)
    assert pulse(budgets).silent(NOW)
    budgets.set(budget(None, spec=DENY, updateTime=SAID), NOW + 5 * SILENT_US)
    assert not pulse(budgets).silent(NOW + 6 * SILENT_US)


def test_a_clock_that_is_ahead_gains_nothing() -> None:
    budgets = Budgets()
    budgets.set(budget(None, spec=DENY, updateTime="2026-11-25T11:00:00Z"), NOW)
    assert pulse(budgets).silent(NOW + SILENT_US + 1)


def test_whom_it_concerns() -> None:
    budgets = Budgets()
    team = {**DENY, "scope": {"consumers": ["b"]}}
    assert budgets.set(budget(None, spec=team, updateTime=SAID), NOW)
    assert budgets.pulses("demo", "m", "demo/a") == () == budgets.pulses("other", "m", "other/b")
    assert len(budgets.pulses("demo", "m", "demo/b")) == 1
    assert budgets.set(budget(None, spec=DENY, updateTime=SAID), NOW), "another scope"
    assert budgets.set(budget(None, updateTime=SAID), NOW), "Serve"
    assert budgets.pulses("demo", "m", "demo/a") == ()
    assert budgets.set(budget(None, spec=DENY), NOW) and budgets.remove(Name("demo", "month"))
    assert budgets.pulses("demo", "m", "demo/a") == ()


def test_what_stops_prewarming_forbids_no_request() -> None:
    budgets = Budgets()
    assert not budgets.set(budget("StopPrewarm"))
    assert budgets.bearing("demo", "m", "demo/a") == ()
