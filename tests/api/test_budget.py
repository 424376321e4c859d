"""Budgets, as the type says and as a real API server takes them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.api.server import MERGE, Refused, Server
from zerotide.api.budget import Budget, BudgetAction, InFlight, LimitType

EXAMPLE = Path(__file__).parents[2] / "examples" / "budget.yaml"
BUDGETS = "/apis/zerotide.dev/v1alpha1/namespaces/default/budgets"
NAME = "budget-tests"
COST = {"type": "Cost", "cost": {"amount": "5.00", "currency": "USD"}}


def budget(**spec: Any) -> dict[str, Any]:
    """Return a budget with these fields."""
    metadata = {"name": NAME, "namespace": "default"}
    return {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget", "metadata": metadata, "spec": spec}


def webhook(**fields: Any) -> dict[str, Any]:
    """Return a webhook with these fields."""
    return {"name": "ops", "url": "https://ops.example/hook", "secretRef": {"name": "ops"}, **fields}


CASES: list[dict[str, Any]] = [
    {"limit": COST},
    {},
    {"limit": {"type": "Cost"}},
    {"limit": {"type": "Tokens", "tokens": 0}},
    {"limit": {"type": "Tokens", "tokens": -1}},
    {"limit": {"type": "Tokens", "acceleratorSeconds": 5}},
    {"limit": {"type": "AcceleratorSeconds", "acceleratorSeconds": 5}},
    {"limit": {**COST, "tokens": 5}},
    {"limit": {"type": "Cost", "cost": {"amount": "-5", "currency": "USD"}}},
    {"limit": {"type": "Cost", "cost": {"amount": "5", "currency": "dollars"}}},
    {"limit": COST, "scope": {"consumers": ["team-a"], "endpoints": ["smollm2"]}},
    {"limit": COST, "scope": {"consumers": []}},
    {"limit": COST, "scope": {"consumers": ["other/team-a"]}},
    {"limit": COST, "scope": {"endpoints": ["Smollm2"]}},
    {"limit": COST, "scope": {"endpoints": ["a", "a"]}},
    {"limit": COST, "window": {"period": "Week", "timeZone": "Europe/Rome"}},
    {"limit": COST, "window": {"period": "Year"}},
    {"limit": COST, "window": {"timeZone": "Mars/Olympus"}},
    {"limit": COST, "thresholds": [{"percent": 80, "action": "DenyWake"}]},
    {"limit": COST, "thresholds": []},
    {"limit": COST, "inFlight": "Finish"},
    {"limit": COST, "inFlight": "End"},
    {"limit": {"type": "AcceleratorSeconds", "acceleratorSeconds": 5}, "inFlight": "End"},
    {"limit": {"type": "Tokens", "tokens": 5}, "inFlight": "End"},
    {"limit": {"type": "Tokens", "tokens": 5}, "inFlight": "Stop"},
    {"limit": COST, "thresholds": [{"percent": 80, "action": "Fallback"}]},
    {"limit": COST, "onLedgerFailure": "Deny"},
    {"limit": COST, "onLedgerFailure": "Hold"},
    {"limit": COST, "thresholds": [{"percent": 80, "action": "StopPrewarm"}]},
    {"limit": COST, "notify": [webhook()]},
    {"limit": COST, "notify": [webhook(url="http://10.0.0.5:8080/hook?to=ops")]},
    {"limit": COST, "notify": [webhook(url="ftp://ops.example/hook")]},
    {"limit": COST, "notify": [webhook(url="https://me:secret@ops.example/")]},
    {"limit": COST, "notify": [webhook(url="https://ops.example/" + "a" * 1024)]},
    {"limit": COST, "notify": [webhook(secretRef={"name": "Ops"})]},
    {"limit": COST, "notify": [webhook(secretRef={})]},
    {"limit": COST, "notify": [{"name": "ops", "url": "https://ops.example/"}]},
    {"limit": COST, "notify": [webhook(), webhook()]},
    {"limit": COST, "notify": [webhook(name=f"n{number}") for number in range(5)]},
    {"limit": COST, "thresholds": [{"percent": 0, "action": "Block"}]},
    {"limit": COST, "thresholds": [{"percent": 101, "action": "Notify"}]},
    {"limit": COST, "thresholds": [{"percent": 80, "action": "Panic"}]},
    {"limit": COST, "thresholds": [{"percent": 80, "action": "Notify"}, {"percent": 80, "action": "Block"}]},
]


def accepted(spec: dict[str, Any]) -> bool:
    """Tell whether the type takes a spec."""
    try:
        Budget.model_validate(budget(**spec))
    except ValidationError:
        return False
    return True


def test_the_examples_are_budgets() -> None:
    objects = list(yaml.safe_load_all(EXAMPLE.read_text()))
    month, team, hard, prepaid = (Budget.model_validate(each) for each in objects if each["kind"] == "Budget")
    assert (month.spec.limit.value, month.spec.limit.unit) == (Fraction(250), "USD")
    assert [each.action for each in month.spec.thresholds] == list(BudgetAction)
    assert (team.spec.limit.type, team.spec.limit.value) == (LimitType.TOKENS, Fraction(5_000_000))
    assert (hard.spec.in_flight, month.spec.in_flight) == (InFlight.END, InFlight.FINISH)
    assert (prepaid.spec.in_flight, prepaid.spec.limit.type) == (InFlight.END, LimitType.COST)
    assert team.spec.thresholds[-1].action is BudgetAction.BLOCK
    assert [(each.name, each.secret_ref.name) for each in month.spec.notify] == [("ops", "budget-webhook")]


def test_time_alone_cannot_be_reserved() -> None:
    seconds = {"type": "AcceleratorSeconds", "acceleratorSeconds": 5}
    assert accepted({"limit": seconds, "inFlight": "Finish"}) and accepted({"limit": COST, "inFlight": "End"})
    with pytest.raises(ValidationError, match=r"limit\.type must be Tokens or Cost where inFlight is End"):
        Budget.model_validate(budget(limit=seconds, inFlight="End"))


@pytest.fixture(scope="module")
def server(cluster: Any) -> Iterator[Server]:
    """Return a client of a cluster that has budgets."""
    with Server(cluster.kubeconfig) as client:
        client.define("budgets")
        yield client


@pytest.mark.cluster
def test_the_type_and_the_server_agree_about_budgets(server: Server) -> None:
    for spec in CASES:
        said = server.refusal(BUDGETS, budget(**spec))
        assert (said is None) == accepted(spec), said or spec
    assert 5 < sum(map(accepted, CASES)) < len(CASES) - 5


@pytest.mark.cluster
def test_a_refusal_says_what_belongs_where(server: Server) -> None:
    said = server.refusal(BUDGETS, budget(limit={"type": "Tokens", "acceleratorSeconds": 5}))
    assert said is not None
    assert "tokens must be given where type is Tokens, and only there" in said


@pytest.mark.cluster
def test_the_server_fills_in_what_happens(server: Server) -> None:
    made = server.call("POST", f"{BUDGETS}?dryRun=All", budget(limit=COST))
    assert made["spec"]["window"] == {"period": "Month", "timeZone": "UTC"}
    assert [(each["percent"], each["action"]) for each in made["spec"]["thresholds"]] == [
        (50, "Notify"),
        (75, "Notify"),
        (90, "Notify"),
        (100, "Block"),
    ]


@pytest.mark.cluster
def test_what_is_reserved_is_counted_in_one_unit(server: Server) -> None:
    tokens = {"type": "Tokens", "tokens": 5, "cost": None}
    try:
        server.call("POST", BUDGETS, budget(limit=COST, inFlight="End"))
        path = f"{BUDGETS}/{NAME}?dryRun=All"
        with pytest.raises(Refused, match=r"limit\.type must not change where inFlight is End"):
            server.call("PATCH", path, {"spec": {"limit": tokens}}, MERGE)
        more = {**COST, "cost": {"amount": "6.00", "currency": "USD"}}
        assert server.call("PATCH", path, {"spec": {"limit": more}}, MERGE)
        assert server.call("PATCH", path, {"spec": {"limit": tokens, "inFlight": "Finish"}}, MERGE)
    finally:
        server.call("DELETE", f"{BUDGETS}/{NAME}")
