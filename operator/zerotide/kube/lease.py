"""Leader election on a coordination.k8s.io Lease, as a fence for the process that writes.

`decide` is pure. Time is measured from when this process saw the record change, never from the stamps inside it,
so clock skew between machines does no harm. Every write carries the resourceVersion it was decided on: of two
processes that try at once, one gets a conflict.

A holder renews at a third of the duration, with one request, and tries again quickly where that fails. It stops
writing a fifth before the lease expires, since what it has sent may still be on its way. A machine that is too busy
to renew in time costs no more than that pause: as long as nobody took the lease, which the resourceVersion proves,
the holder takes it up again. It is lost to another process alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from zerotide.kube.client import Client, Object
from zerotide.kube.errors import Conflict, KubeError, NotFound
from zerotide.kube.resources import LEASES

log = logging.getLogger(__name__)

_WRITES = 0.8
"""Part of the duration, after a renewal, in which the holder may write."""

Action = Literal["create", "renew", "take", "follow"]


def decide(lease: Object | None, me: str, unchanged: float, duration: float) -> Action:
    """Choose what to do with a lease that has looked the same for `unchanged` seconds (duration in seconds too)."""
    if lease is None:
        return "create"
    holder = (lease.get("spec") or {}).get("holderIdentity") or ""
    if holder == me:
        return "renew"
    if not holder or unchanged >= duration:
        return "take"
    return "follow"


@dataclass
class _Seen:
    version: str = ""
    at: float = 0.0


class Elector:
    """Hold or seek one Lease; `leading` tells whether to write now, `elected` wakes those who wait for the first time.

    When another process has taken it, `on_lost` is called at once and must stop all writes (usually by ending the
    process). A seeker looks every `retry` seconds.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        on_lost: Callable[[], None],
        duration: float = 5.0,
        retry: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if retry * 3 > duration:
            raise ValueError(f"retry ({retry} s) must be at most a third of duration ({duration} s)")
        self.elected = asyncio.Event()
        self._client, self._namespace, self._name, self._me = client, namespace, name, identity
        self._on_lost, self._duration, self._retry, self._clock = on_lost, duration, retry, clock
        self._seen = _Seen()
        self._renewed = float("-inf")
        self._held: Object | None = None
        self._taken = False

    @property
    def leading(self) -> bool:
        """Tell whether this process may write now: it holds the lease and renewed it recently enough."""
        return self.elected.is_set() and self._clock() - self._renewed < self._duration * _WRITES

    async def run(self) -> None:
        """Seek and keep the lease until cancelled or lost."""
        while True:
            led = self.leading
            done = await self._step()
            if self._taken:
                self.elected.clear()
                log.error("lease lost", extra={"lease": self._name, "identity": self._me})
                self._on_lost()
                return
            if led and not self.leading:
                log.warning("lease not renewed in time, writing nothing", extra={"lease": self._name})
            await asyncio.sleep(self._pause(done))

    async def release(self) -> None:
        """Give the lease up so that the standby takes over at once; harmless when not holding it."""
        if not self.elected.is_set():
            return
        self.elected.clear()
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
            if lease["spec"].get("holderIdentity") == self._me:
                lease["spec"].update(holderIdentity="", leaseDurationSeconds=1)
                await self._client.replace(LEASES, lease)
        except KubeError as error:
            log.warning("lease not released", extra={"lease": self._name, "error": str(error)})

    def _pause(self, done: bool) -> float:
        if not self.elected.is_set():
            return self._retry
        if done:
            return max(0.0, self._renewed + self._duration / 3 - self._clock())
        return min(self._retry, self._duration / 20)

    async def _step(self) -> bool:
        """Try once; return whether it is settled who holds the lease."""
        left = self._renewed + self._duration - self._clock() if self.elected.is_set() else self._duration
        # A slow answer is worth waiting for, but not for so long that no second try is left. Once it is too late for
        # that, nothing is lost by waiting: who gave up sooner then would never hold it again, as slow as the server is.
        patience = min(self._duration / 2, max(left, self._duration / 5)) if left > 0 else self._duration * _WRITES
        try:
            async with asyncio.timeout(patience):
                await self._try()
        except (Conflict, NotFound):
            self._held = None  # somebody wrote, perhaps a try of our own that was given up: look
        except (KubeError, TimeoutError) as error:
            log.warning("lease not reached", extra={"lease": self._name, "error": str(error) or "timeout"})
        else:
            return True
        return False

    async def _try(self) -> None:
        now = self._clock()
        lease = self._held
        if lease is None:
            try:
                lease = await self._client.get(LEASES, self._name, self._namespace)
            except NotFound:
                lease = None
            now = self._clock()
            version = lease["metadata"]["resourceVersion"] if lease else ""
            if version != self._seen.version:
                self._seen = _Seen(version, now)
            if decide(lease, self._me, now - self._seen.at, self._duration) == "follow" or self._is_taken(lease):
                self._taken = self.elected.is_set()
                return
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": metadata,
                "spec": self._spec(None),
            }
            self._held = await self._client.create(LEASES, body)
        else:
            self._held = await self._client.replace(LEASES, {**lease, "spec": self._spec(lease["spec"])})
        self._renewed = now
        if not self.elected.is_set():
            log.info("lease held", extra={"lease": self._name, "identity": self._me})
            self.elected.set()

    def _is_taken(self, lease: Object | None) -> bool:
        """Tell whether a lease that was ours is not any more: whoever had it may have written meanwhile."""
        return self.elected.is_set() and lease is not None and lease["spec"].get("holderIdentity") != self._me

    def _spec(self, previous: dict[str, Any] | None) -> dict[str, Any]:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = previous is not None and previous.get("holderIdentity") == self._me
        transitions = int((previous or {}).get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._me,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": (previous or {}).get("acquireTime", stamp) if mine else stamp,
            "renewTime": stamp,
            "leaseTransitions": transitions if mine or previous is None else transitions + 1,
        }
