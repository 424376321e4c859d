"""Which thresholds of a budget were reached in its window, and what webhooks say of each.

What was reached is remembered in the status, so that it is told once in a window whatever process tells it: not again
after a restart, nor when later truth takes some of the use back and time brings it again. Another limit begins anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from zerotide.api.budget import Budget, BudgetAction, BudgetStatus, Reached
from zerotide.api.scalars import format_time
from zerotide.api.webhooks import Webhook
from zerotide.billing.budgets import Standing

SCHEDULE_S = (0, 5, 305, 2105, 9305, 27305, 63305, 113705, 185705, 272105)
"""Seconds after a threshold was reached at which its webhook is sent until it is taken: the specification's example."""


class Told(NamedTuple):
    """A webhook that is to be sent: `since` tells when the threshold was reached."""

    id: str
    webhook: Webhook
    percent: int
    since: str
    body: bytes


def reached(budget: Budget, known: BudgetStatus, standing: Standing, found: BudgetStatus) -> tuple[Reached, ...]:
    """Return what was reached in the window of a status that was just found; `known` is the one written before it."""
    before: dict[tuple[int, BudgetAction], Reached] = {}
    for status in (known, budget.status):
        if (status.window_start, status.window_end, status.limit) == (
            found.window_start,
            found.window_end,
            found.limit,
        ):
            for each in status.reached or ():
                before.setdefault((each.percent, each.action), each)
    result = []
    for threshold in sorted(budget.spec.thresholds, key=lambda each: each.percent):
        earlier = before.get((threshold.percent, threshold.action))
        if earlier is not None:
            result.append(earlier)
        elif threshold.percent in standing.thresholds:
            now = found.update_time or format_time(0)
            new = Reached(percent=threshold.percent, action=threshold.action, time=now, used=found.used or "")
            result.append(new)
    return tuple(result)


def told_of(budget: Budget, status: BudgetStatus) -> tuple[Told, ...]:
    """Return the webhooks that tell of what was reached, each of them the same however often it is asked for."""
    return tuple(
        _told(budget, status, webhook, each) for each in status.reached or () for webhook in budget.spec.notify
    )


def retry_after(attempts: int, elapsed_s: float) -> float | None:
    """Return in how many seconds a webhook is sent again, None for never.

    `attempts` were made so far, and so much time has passed since its threshold was reached. Attempts that were missed
    are not made up for.
    """
    due = [offset for offset in SCHEDULE_S[attempts:] if offset > elapsed_s]
    if attempts == 0:
        return 0.0
    return due[0] - elapsed_s if due else None


def _told(budget: Budget, status: BudgetStatus, webhook: Webhook, found: Reached) -> Told:
    metadata = budget.metadata
    parts = (metadata.uid, status.window_start, status.window_end, status.limit, found.percent, found.action.value)
    identity = json.dumps([*parts, webhook.name, webhook.url])
    data = {
        "namespace": metadata.namespace,
        "budget": metadata.name,
        "uid": metadata.uid,
        "percent": found.percent,
        "action": found.action.value,
        "used": found.used,
        "limit": status.limit,
        "windowStart": status.window_start,
        "windowEnd": status.window_end,
    }
    told = {"type": "budget.threshold_reached", "timestamp": found.time}
    body = {**told, "data": {name: value for name, value in data.items() if value is not None}}
    id = f"msg_{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
    return Told(id, webhook, found.percent, found.time, json.dumps(body, separators=(",", ":")).encode())
