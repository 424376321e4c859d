"""Verdicts: when they hold, and what requests notice of a change."""

from __future__ import annotations

from typing import Any

from zerotide.activator.admission.budgets import Budgets
from zerotide.activator.admission.naming import Name
from zerotide.api.budget import Budget
from zerotide.api.scalars import parse_time

END = "2026-12-01T00:00:00Z"


def budget(action: str | None = "Block", name: str = "month", **status: Any) -> Budget:
    """Return a budget of the namespace demo with this status."""
    limit = {"type": "Tokens", "tokens": 5}
    told = {"action": action, "windowEnd": END, **status} if action else status
    metadata = {"namespace": "demo", "name": name, "generation": 1}
    return Budget.parse({"metadata": metadata, "spec": {"limit": limit}, "status": told, **KIND})


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
