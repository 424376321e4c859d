"""What budgets forbid, as a client meets it: named, before anything is woken, and until the window is over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack
from zerotide.api.scalars import HOUR, MINUTE, format_time
from zerotide.kube import Change


async def test_a_used_up_budget_refuses_everything(stack: Stack, replica: Replica) -> None:
    await stack.awake(replica)
    assert (await stack.post()).status == 200
    stack.budget("Block")
    refused = await stack.post()
    assert (refused.status, refused.code) == (402, "budget_exhausted")
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json["error"]["message"] == (
        "budget month of namespace demo: 5.00 USD of 5.00 USD are used up (100 %); until then requests are refused"
    )
    stack.budget(None)
    assert (await stack.post()).status == 200


async def test_it_wakes_nothing(stack: Stack) -> None:
    stack.endpoint()
    stack.key()
    for action in ("Block", "DenyWake"):
        stack.budget(action)
        assert (await stack.post()).code == "budget_exhausted"
    assert stack.api.applied == []
    assert stack.tracker.demand("demo/m") is None


async def test_what_is_awake_serves_where_only_wakes_are_denied(stack: Stack, replica: Replica) -> None:
    await stack.awake(replica)
    stack.budget("DenyWake")
    assert (await stack.post()).status == 200
    stack.budget("Notify")
    assert (await stack.post()).status == 200


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({}, 402),
        ({"consumers": ["team-a"]}, 402),
        ({"consumers": ["team-b"]}, 200),
        ({"endpoints": ["m"]}, 402),
        ({"endpoints": ["n"]}, 200),
        ({"endpoints": ["m"], "consumers": ["team-b"]}, 200),
        ({"endpoints": ["m"], "consumers": ["team-b", "team-a"]}, 402),
    ],
)
async def test_only_who_is_in_its_scope(stack: Stack, replica: Replica, scope: dict[str, Any], status: int) -> None:
    await stack.awake(replica)
    assert (await stack.post()).status == 200
    stack.budget("Block", **scope)
    assert (await stack.post()).status == status


async def test_another_namespace_and_a_deleted_budget_bind_nobody(stack: Stack, replica: Replica) -> None:
    await stack.awake(replica)
    stack.budget("Block", namespace="other")
    assert (await stack.post()).status == 200
    stack.budget("Block")
    assert (await stack.post()).status == 402
    stack.registry.budget_changed(Change("deleted", {"metadata": {"namespace": "demo", "name": "month"}}))
    assert (await stack.post()).status == 200


async def test_the_strictest_of_several_holds(stack: Stack, replica: Replica) -> None:
    await stack.awake(replica)
    stack.budget("DenyWake", "soft")
    stack.budget("Block", "hard")
    assert "budget hard of" in (await stack.post()).json["error"]["message"]


async def test_a_budget_that_cannot_be_read_changes_nothing(stack: Stack, replica: Replica) -> None:
    await stack.awake(replica)
    stack.budget("Block")
    broken = {"metadata": {"namespace": "demo", "name": "month"}, "spec": {"limit": {"type": "Cost"}}}
    stack.registry.budget_changed(Change("set", broken))
    assert (await stack.post()).status == 402


DENY = {"onLedgerFailure": "Deny"}


async def test_what_must_be_known_and_is_not_is_refused(stack: Stack, replica: Replica) -> None:
    """Until the exporter says something again; other budgets' requests, and what is known, are served."""
    await stack.awake(replica)
    now_us = stack.service.clock.now_us()
    stack.budget("Notify", "serving", said=format_time(now_us - HOUR))
    stack.budget(None, "known", said=format_time(now_us), spec=DENY)
    assert (await stack.post()).status == 200
    stack.budget(None, said=format_time(now_us - 2 * MINUTE), spec=DENY)
    refused = await stack.post()
    assert (refused.status, refused.code) == (503, "ledger_unavailable")
    assert refused.headers["x-should-retry"] == "true"
    assert refused.json["error"]["message"] == (
        "budget month of namespace demo lets nothing be served while it is not known what is used up, "
        "and for 60 s nobody has said"
    )
    stack.budget(None, said=format_time(now_us), spec=DENY)
    assert (await stack.post()).status == 200


async def test_what_is_not_known_wakes_nothing(stack: Stack) -> None:
    stack.endpoint()
    stack.key()
    stack.budget(None, spec=DENY)
    assert (await stack.post()).code == "ledger_unavailable"
    assert stack.api.applied == [] and stack.tracker.demand("demo/m") is None


async def test_what_cannot_be_recorded_is_refused_whatever_the_endpoint_says(replica: Replica) -> None:
    async with Stack() as stack:
        await stack.awake(replica)
        assert (await stack.post()).status == 200
        stack.budget(None, said=format_time(stack.service.clock.now_us()), spec=DENY)
        refused = await stack.post()
        assert (refused.status, refused.code) == (503, "ledger_unavailable")
        assert "this gateway records none" in refused.json["error"]["message"]
