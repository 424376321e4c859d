"""Count starts that failed, and decide when to give one up and when to try the next."""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.api.scalars import SECOND
from zerotide.scaling.demand import Load
from zerotide.scaling.policy import Policy

FIRST_BACKOFF_US = 30 * SECOND
_NOTICE_US = 1 * SECOND
"""Time between telling clients why and giving the pod up, so that they learn the reason and not only the pause."""


@dataclass(frozen=True, slots=True)
class FailedStarts:
    """Starts that failed one after another; `retry_us` is set while the next one has to wait."""

    count: int = 0
    since_us: int = 0
    reason: str = ""
    message: str = ""
    retry_us: int | None = None

    def waiting(self, now_us: int) -> bool:
        """Tell whether the next start has to wait."""
        return self.retry_us is not None and now_us < self.retry_us


def failed(before: FailedStarts, reason: str, message: str, policy: Policy, now_us: int) -> FailedStarts:
    """Count one more failed start; those older than the failure window are forgotten."""
    fresh = before.count == 0 or now_us - before.since_us > policy.failure_window_us
    if fresh:
        return FailedStarts(1, now_us, reason, message)
    return FailedStarts(before.count + 1, before.since_us, reason, message)


def given_up(starts: FailedStarts, policy: Policy, now_us: int) -> FailedStarts:
    """Set the back-off of a start that was given up: 30 s, doubled for each failure, at most the failure window."""
    pause = min(FIRST_BACKOFF_US * 2 ** min(max(starts.count, 1) - 1, 30), policy.failure_window_us)
    return FailedStarts(starts.count, starts.since_us, starts.reason, starts.message, now_us + pause)


def give_up_at(starts: FailedStarts, hopeless_us: int, at_once: bool, load: Load, policy: Policy) -> int | None:
    """Return when to give up a start that became hopeless at `hopeless_us`; None while requests are still held.

    At once (but for a second, in which clients learn the reason) where waiting cannot help or too many failed;
    else Kubernetes goes on trying until nobody has asked for the idle timeout.
    """
    if at_once or starts.count >= policy.max_failures:
        return hopeless_us + _NOTICE_US
    if load.active:
        return None
    return max(hopeless_us, load.last_request_us) + policy.idle_us
