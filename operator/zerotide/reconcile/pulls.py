"""Count the back-offs of image pulls, which a pod's status does not tell: it shows only the present one.

Each change from a failed pull to its back-off is one. The kubelet's first back-off takes 10 s, so a pod that has
waited for longer than that is in its second, even where a change was missed or happened before this process began.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.api.scalars import SECOND
from zerotide.reconcile.pods import Pod

PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")
_SECOND_BACKOFF_US = 25 * SECOND


@dataclass(slots=True)
class _Seen:
    waiting: str
    since_us: int
    backoffs: int


class PullWatch:
    """Back-offs by pod uid, from the pods in the order in which they change."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def observe(self, pod: Pod, now_us: int) -> None:
        """Take in a pod as it is now."""
        if pod.waiting not in PULL_FAILURES:
            self._seen.pop(pod.uid, None)
            return
        seen = self._seen.setdefault(pod.uid, _Seen("", now_us, 0))
        if pod.waiting == "ImagePullBackOff" and seen.waiting != pod.waiting:
            seen.backoffs += 1
        seen.waiting = pod.waiting

    def stepped(self, step_us: int) -> None:
        """Move what was seen along with a clock that was set."""
        for seen in self._seen.values():
            seen.since_us += step_us

    def forget(self, uid: str) -> None:
        """Forget a pod that is gone."""
        self._seen.pop(uid, None)

    def count(self, uid: str, now_us: int) -> int:
        """Return how many back-offs a pod's pull is in."""
        seen = self._seen.get(uid)
        if seen is None:
            return 0
        return max(seen.backoffs, 2) if now_us - seen.since_us >= _SECOND_BACKOFF_US else seen.backoffs

    def due_us(self, uid: str, now_us: int) -> int | None:
        """Return when the count will grow by the passing of time alone, or None."""
        seen = self._seen.get(uid)
        if seen is None or self.count(uid, now_us) >= 2:
            return None
        return seen.since_us + _SECOND_BACKOFF_US
