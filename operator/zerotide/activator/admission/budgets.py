"""What budgets forbid, as the exporter has found it and written it into their statuses.

A verdict ends with its window: what the exporter has not said of the next one yet does not bind it.
"""

from __future__ import annotations

from typing import NamedTuple

from zerotide.activator.admission.naming import Name
from zerotide.api.budget import Budget, BudgetAction, BudgetScope, InFlight
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.scalars import MINUTE, SECOND, parse_time

SILENT_US = MINUTE
"""After how long without a word of the exporter nobody knows what is used up of a budget."""


_WHAT = {
    BudgetAction.DENY_WAKE: "no sleeping endpoint is woken",
    BudgetAction.FALLBACK: "only fallbacks serve, and this endpoint has none that can",
    BudgetAction.BLOCK: "requests are refused",
}


class Verdict(NamedTuple):
    """A budget that is used up so far that it forbids something; `until_us` is None where it never begins anew."""

    namespace: str
    name: str
    scope: BudgetScope
    action: BudgetAction
    until_us: int | None
    detail: str

    def holds(self, now_us: int) -> bool:
        """Tell whether its window is not over."""
        return self.until_us is None or now_us < self.until_us

    def forbids(self, cold: bool, now_us: int, *, elsewhere: bool = False) -> bool:
        """Tell whether it forbids a request, which is `cold` where no replica could serve it.

        `elsewhere` tells that it is served by the fallback of its endpoint, which is what Fallback asks for.
        """
        if not self.holds(now_us):
            return False
        if self.action is BudgetAction.BLOCK or (self.action is BudgetAction.FALLBACK and not elsewhere):
            return True
        return cold

    def rejection(self) -> Rejection:
        """Return the refusal, which names the budget and when it begins anew."""
        what = _WHAT[self.action]
        text = f"budget {self.name} of namespace {self.namespace}: {self.detail}; until then {what}"
        if self.until_us is None:
            text = f"budget {self.name} of namespace {self.namespace}: {self.detail}; {what} until it is raised"
        return Rejection(ErrorCode.BUDGET_EXHAUSTED, text)


class Pulse:
    """When the exporter was heard last about a budget that lets nothing be served while nobody knows what is used up.

    It changes without a new plan for anybody: what the exporter says is only that it is there.
    """

    __slots__ = ("_name", "_said", "heard_us", "scope")

    def __init__(self, name: Name, scope: BudgetScope, said: str | None, now_us: int) -> None:
        """`said` is the time in the status as it is seen first, when nobody knows for how long it was there."""
        self._name, self.scope, self._said = name, scope, said
        self.heard_us = min(parse_time(said), now_us) if said else 0

    def hear(self, said: str | None, now_us: int) -> None:
        """Take in the time in a status that has changed, by the clock of whoever hears it."""
        if said != self._said:
            self._said, self.heard_us = said, now_us

    def silent(self, now_us: int) -> bool:
        """Tell whether it was not heard for too long."""
        return now_us - self.heard_us > SILENT_US

    def rejection(self) -> Rejection:
        """Return the refusal, which names the budget."""
        return Rejection(
            ErrorCode.LEDGER_UNAVAILABLE,
            f"budget {self._name.name} of namespace {self._name.namespace} lets nothing be served while it is not "
            f"known what is used up, and for {SILENT_US // SECOND} s nobody has said",
        )


class Budgets:
    """The verdicts of all budgets, by namespace, the scopes of those that are never passed, and whom to hear about."""

    def __init__(self) -> None:
        self._verdicts: dict[str, dict[str, Verdict]] = {}
        self._hard: dict[Name, BudgetScope] = {}
        self._pulses: dict[Name, Pulse] = {}

    def set(self, budget: Budget, now_us: int = 0) -> bool:
        """Take in a budget that came just now; tell whether what it asks for has changed so that a request notices."""
        name, spec = Name(budget.metadata.namespace, budget.metadata.name), budget.spec
        changed = self._bind(name, spec.scope if spec.in_flight is InFlight.END else None)
        changed = self._listen(name, budget, now_us) or changed
        return self._put(name, verdict_of(budget)) or changed

    def remove(self, name: Name) -> bool:
        """Forget a budget; tell whether it forbade anything, or asked for anything."""
        changed = self._bind(name, None)
        changed = self._pulses.pop(name, None) is not None or changed
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

    def pulses(self, namespace: str, endpoint: str, consumer: str) -> tuple[Pulse, ...]:
        """Return by what a consumer's requests to an endpoint know that it is known what is used up."""
        if not self._pulses:
            return ()
        return tuple(
            pulse
            for name, pulse in sorted(self._pulses.items())
            if name.namespace == namespace and pulse.scope.holds(namespace, endpoint, consumer)
        )

    def bearing(self, namespace: str, endpoint: str, consumer: str) -> tuple[Verdict, ...]:
        """Return the verdicts that bear on a consumer's requests to an endpoint; `consumer` is `namespace/name`."""
        found = self._verdicts.get(namespace)
        if not found:
            return ()
        return tuple(each for each in found.values() if each.scope.holds(namespace, endpoint, consumer))

    def _listen(self, name: Name, budget: Budget, now_us: int) -> bool:
        """Note what a status says, where it matters; tell whether it matters to others than before."""
        spec, said = budget.spec, budget.status.update_time
        known = self._pulses.get(name)
        if spec.on_ledger_failure != "Deny":
            return self._pulses.pop(name, None) is not None
        if known is not None and known.scope == spec.scope:
            known.hear(said, now_us)
            return False
        self._pulses[name] = Pulse(name, spec.scope, said, now_us)
        return True

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
    metadata, message = budget.metadata, status.message or ""
    return Verdict(metadata.namespace, metadata.name, budget.spec.scope, status.action, status.until_us, message)
