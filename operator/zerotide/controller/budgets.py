"""What budgets withhold from endpoints: from StopPrewarm on, no replica is kept without requests.

The exporter says in a budget's status what holds. That ends with its window, since what is used up begins anew then,
whether or not an exporter is there to say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from zerotide.api.budget import Budget, BudgetAction, BudgetScope
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.failures import InvalidObject
from zerotide.kube import Change
from zerotide.reconcile.observed import Withheld

log = logging.getLogger(__name__)


class _Verdict(NamedTuple):
    scope: BudgetScope
    reason: str
    until_us: int | None


class Budgets:
    """The budgets that withhold something, by namespace and name; `on_change` is called with a namespace."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._verdicts: dict[str, dict[str, _Verdict]] = {}
        self._on_change = on_change

    def take(self, change: Change) -> None:
        """Take in a change of a budget; one that this operator does not understand withholds what it did before."""
        metadata = change.object["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        found: _Verdict | None = None
        if change.type == "set":
            try:
                found = _verdict(Budget.parse(change.object))
            except InvalidObject as error:
                log.error("Budget not understood", extra={"budget": f"{namespace}/{name}", "error": str(error)})
                return
        mine = self._verdicts.setdefault(namespace, {})
        known = mine.pop(name, None)
        if found is not None:
            mine[name] = found
        if not mine:
            del self._verdicts[namespace]
        if (known is None) != (found is None) or _held(known) != _held(found):
            self._on_change(namespace)

    def of(self, endpoint: InferenceEndpoint, now_us: int) -> Withheld | None:
        """Return why an endpoint is kept without requests no longer, None where it may be.

        A budget counts that its owner is bound by: nobody else pays for a replica that nobody calls.
        """
        namespace, name = endpoint.metadata.namespace, endpoint.metadata.name
        holding = [
            each
            for _, each in sorted(self._verdicts.get(namespace, {}).items())
            if each.scope.holds(namespace, name, endpoint.owner)
            if each.until_us is None or now_us < each.until_us
        ]
        if not holding:
            return None
        return Withheld(holding[0].reason, min((each.until_us for each in holding if each.until_us), default=None))


def _held(verdict: _Verdict | None) -> tuple[BudgetScope, int | None] | None:
    # What is used up changes with every minute, and is told with the next decision.
    return (verdict.scope, verdict.until_us) if verdict is not None else None


def _verdict(budget: Budget) -> _Verdict | None:
    status = budget.status
    if status.action is None or not status.action.includes(BudgetAction.STOP_PREWARM):
        return None
    reason = f"budget {budget.metadata.name} of the namespace: {status.message or 'it is used up'}"
    return _Verdict(budget.spec.scope, reason, status.until_us)
