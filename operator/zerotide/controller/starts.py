"""What the operator saw of starts as they happened: its own stamps, finer than the API's whole seconds.

And what a pod's status does not tell: how often its image pull backed off, and which of its volumes do not mount.
"""

from __future__ import annotations

from typing import Any

from zerotide.reconcile.pods import Pod, Stage
from zerotide.reconcile.pulls import PullWatch
from zerotide.reconcile.wakes import Sightings

Object = dict[str, Any]


class Starts:
    """Sightings, pull back-offs and failed mounts by pod uid."""

    def __init__(self) -> None:
        self.pulls = PullWatch()
        self._seen: dict[str, Sightings] = {}
        self._mounts: dict[str, str] = {}

    def observe(self, pod: Pod, now_us: int) -> None:
        """Take in a pod as it is now."""
        self.pulls.observe(pod, now_us)
        seen = self._seen.get(pod.uid, Sightings())
        scheduled, started = seen.scheduled_us, seen.started_us
        if scheduled is None and pod.stage >= Stage.SCHEDULED:
            scheduled = now_us
        if started is None and pod.stage >= Stage.RUNNING:
            started = now_us
        if (scheduled, started) != (seen.scheduled_us, seen.started_us):
            self._seen[pod.uid] = Sightings(scheduled, started)

    def mount_failed(self, event: Object) -> str | None:
        """Take in a FailedMount event; return the pod's uid once it has failed at least twice."""
        uid = str((event.get("involvedObject") or {}).get("uid") or "")
        count = max(int(event.get("count") or 1), int((event.get("series") or {}).get("count") or 1))
        if not uid or count < 2:
            return None
        self._mounts[uid] = str(event.get("message") or "a volume does not mount")
        return uid

    def mounts(self, pods: tuple[Pod, ...]) -> dict[str, str]:
        """Return the messages of volumes that do not mount, by pod uid."""
        return {pod.uid: self._mounts[pod.uid] for pod in pods if pod.uid in self._mounts}

    def pull_counts(self, pods: tuple[Pod, ...], now_us: int) -> dict[str, int]:
        """Return the pull back-offs by pod uid."""
        return {pod.uid: self.pulls.count(pod.uid, now_us) for pod in pods}

    def next_pull_us(self, pods: tuple[Pod, ...], now_us: int) -> int | None:
        """Return when a pull's count grows by time alone, or None."""
        times = [due for pod in pods if (due := self.pulls.due_us(pod.uid, now_us)) is not None]
        return min(times, default=None)

    def first(self, pods: tuple[Pod, ...], since_us: int) -> Sightings:
        """Return the sightings of the first pod that got a node since then."""
        seen = [self._seen[pod.uid] for pod in pods if pod.uid in self._seen]
        after = [item for item in seen if (item.scheduled_us or 0) >= since_us]
        return min(after, key=lambda item: item.scheduled_us or 0, default=Sightings())

    def stepped(self, step_us: int) -> None:
        """Move what was seen along with a clock that was set."""
        self.pulls.stepped(step_us)
        self._seen = {uid: seen.moved(step_us) for uid, seen in self._seen.items()}

    def forget(self, uid: str) -> None:
        """Forget a pod that is gone."""
        self.pulls.forget(uid)
        self._seen.pop(uid, None)
        self._mounts.pop(uid, None)
