"""What budgets forbid, as the exporter has found it and written it into their statuses.

A verdict ends with its window: what the exporter has not said of the next one yet does not bind it.
"""

from __future__ import annotations

from typing import NamedTuple

from zerotide.activator.admission.naming import Name
from zerotide.api.budget import Budget, BudgetAction, BudgetScope, InFlight
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.scalars import parse_time


class Verdict(NamedTuple):
    """A budget that is used up so far that it forbids something; `until_us` is None where it never begins anew."""

    namespace: str
    name: str
    scope: BudgetScope
    action: BudgetAction
    until_us: int | None
    detail: str

    def forbids(self, cold: bool, now_us: int) -> bool:
        """Tell whether it forbids a request, which is `cold` where no replica could serve it."""
        if self.until_us is not None and now_us >= self.until_us:
            return False
        return self.action is BudgetAction.BLOCK or (self.action is BudgetAction.DENY_WAKE and cold)

    def rejection(self) -> Rejection:
        """Return the refusal, which names the budget and when it begins anew."""
        what = "no sleeping endpoint is woken" if self.action is BudgetAction.DENY_WAKE else "requests are refused"
        text = f"budget {self.name} of namespace {self.namespace}: {self.detail}; until then {what}"
        if self.until_us is None:
            text = f"budget {self.name} of namespace {self.namespace}: {self.detail}; {what} until it is raised"
        return Rejection(ErrorCode.BUDGET_EXHAUSTED, text)


class Budgets:
    """The verdicts of all budgets, by namespace, and the scopes of those that are never passed."""

    def __init__(self) -> None:
        self._verdicts: dict[str, dict[str, Verdict]] = {}
        self._hard: dict[Name, BudgetScope] = {}

    def set(self, budget: Budget) -> bool:
        """Take in a budget; tell whether what it asks for has changed in any way that a request may notice."""
        name, spec = Name(budget.metadata.namespace, budget.metadata.name), budget.spec
        changed = self._bind(name, spec.scope if spec.in_flight is InFlight.END else None)
        return self._put(name, verdict_of(budget)) or changed

    def remove(self, name: Name) -> bool:
        """Forget a budget; tell whether it forbade anything, or asked for anything."""
        changed = self._bind(name, None)
        return self._put(name, None) or changed

    def reserving(self, namespace: str, endpoint: str, consumer: str) -> tuple[Name, ...]:
        """Return the budgets of which a consumer's requests to an endpoint must reserve tokens before they are sent."""
        if not self._hard:
            return ()
        return tuple(
            sorted(
                name
                for name, scope in self._hard.items()
                if name.namespace == namespace and scope.holds(namespace, endpoint, consumer)
            )
        )

    def bearing(self, namespace: str, endpoint: str, consumer: str) -> tuple[Verdict, ...]:
        """Return the verdicts that bear on a consumer's requests to an endpoint; `consumer` is `namespace/name`."""
        found = self._verdicts.get(namespace)
        if not found:
            return ()
        return tuple(each for each in found.values() if each.scope.holds(namespace, endpoint, consumer))

    def _bind(self, name: Name, scope: BudgetScope | None) -> bool:
        known = self._hard.pop(name, None)
        if scope is not None:
            self._hard[name] = scope
        return known != scope

    def _put(self, name: Name, verdict: Verdict | None) -> bool:
        mine = self._verdicts.setdefault(name.namespace, {})
        known = mine.get(name.name)
        if verdict is None:
            mine.pop(name.name, None)
            if not mine:
                del self._verdicts[name.namespace]
        else:
            mine[name.name] = verdict
        return known != verdict


def verdict_of(budget: Budget) -> Verdict | None:
    """Return what a budget forbids, None where that is nothing.

    What was said of an older spec holds until the new one is reckoned, so that an edit opens no gap.
    """
    status = budget.status
    if status.action is None or not status.action.includes(BudgetAction.DENY_WAKE):
        return None
    until = parse_time(status.window_end) if status.window_end else None
    return Verdict(
        budget.metadata.namespace, budget.metadata.name, budget.spec.scope, status.action, until, status.message or ""
    )
