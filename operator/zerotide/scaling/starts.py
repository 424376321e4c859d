"""Count starts that failed, and decide when to give one up and when to try the next.

What counts are the failures of the window that ends with the newest one. Time alone forgets none, or a start that
requests are held for would be given up by its count before it is, and after that no more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zerotide.api.scalars import SECOND
from zerotide.scaling.demand import Load
from zerotide.scaling.policy import Policy

FIRST_BACKOFF_US = 30 * SECOND
MOST = 100
"""Failures that are remembered: no policy may ask for more, and the back-off is as long as any window before that."""
_NOTICE_US = 1 * SECOND
"""Time between telling clients why and giving the pod up, so that they learn the reason and not only the pause."""


@dataclass(frozen=True, slots=True)
class FailedStarts:
    """When starts failed one after another, the newest first; `retry_us` is set while the next one has to wait."""

    times_us: tuple[int, ...] = ()
    reason: str = ""
    message: str = ""
    retry_us: int | None = None

    @property
    def count(self) -> int:
        """Return how many failed within the window."""
        return len(self.times_us)

    @property
    def since_us(self) -> int:
        """Return when the first of them failed, 0 where none did."""
        return self.times_us[-1] if self.times_us else 0

    def waiting(self, now_us: int) -> bool:
        """Tell whether the next start has to wait."""
        return self.retry_us is not None and now_us < self.retry_us


def believed(told: FailedStarts, policy: Policy, now_us: int) -> FailedStarts:
    """Return what was remembered, as far as it can be: a clock that was set back would make it last for as long."""
    times = tuple(min(time, now_us) for time in told.times_us[:MOST])
    retry = None if told.retry_us is None else min(told.retry_us, now_us + policy.failure_window_us)
    return replace(told, times_us=times, retry_us=retry)


def failed(before: FailedStarts, reason: str, message: str, policy: Policy, now_us: int) -> FailedStarts:
    """Count one more failed start; each that is older than the failure window is forgotten."""
    young = (time for time in before.times_us if now_us - time <= policy.failure_window_us)
    return FailedStarts((now_us, *young)[:MOST], reason, message)


def given_up(starts: FailedStarts, policy: Policy, now_us: int) -> FailedStarts:
    """Set the back-off of a start that was given up: 30 s, doubled for each failure, at most the failure window."""
    pause = min(FIRST_BACKOFF_US * 2 ** min(max(starts.count, 1) - 1, 30), policy.failure_window_us)
    return replace(starts, retry_us=now_us + pause)


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
