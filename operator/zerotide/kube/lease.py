"""Leader election on a coordination.k8s.io Lease, as a fence for the process that writes.

`decide` is pure. Time is measured from when this process saw the record change, never from the stamps inside it,
so clock skew between machines does no harm. Every write carries the resourceVersion it was decided on: of two
processes that try at once, one gets a conflict.
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
    """Hold or seek one Lease; `leading` tells which, `elected` wakes those who wait for it.

    On loss, `on_lost` is called at once and must stop all writes (usually by ending the process).
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

    @property
    def leading(self) -> bool:
        """Tell whether this process may write now: it holds the lease and renewed it recently enough."""
        return self.elected.is_set() and self._clock() - self._renewed < self._duration

    async def run(self) -> None:
        """Seek and keep the lease until cancelled or lost."""
        while True:
            await self._step()
            if self.elected.is_set() and self._clock() - self._renewed >= self._duration - self._retry:
                self.elected.clear()
                log.error("lease lost", extra={"lease": self._name, "identity": self._me})
                self._on_lost()
                return
            await asyncio.sleep(self._retry)

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

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(self._duration / 2):
                await self._try()
        except Conflict:
            log.debug("lease taken by another", extra={"lease": self._name})
            self._mark_lost_to_another()
        except (KubeError, TimeoutError) as error:
            log.warning("lease not reached", extra={"lease": self._name, "error": str(error) or "timeout"})

    async def _try(self) -> None:
        try:
            lease: Object | None = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            lease = None
        now = self._clock()
        version = lease["metadata"]["resourceVersion"] if lease else ""
        if version != self._seen.version:
            self._seen = _Seen(version, now)
        action = decide(lease, self._me, now - self._seen.at, self._duration)
        if action == "follow":
            self._mark_lost_to_another()
            return
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": metadata,
                "spec": self._spec(None),
            }
            await self._client.create(LEASES, body)
        else:
            await self._client.replace(LEASES, {**lease, "spec": self._spec(lease["spec"])})
        self._renewed = now
        if not self.elected.is_set():
            log.info("lease held", extra={"lease": self._name, "identity": self._me})
            self.elected.set()

    def _mark_lost_to_another(self) -> None:
        if self.elected.is_set():
            self._renewed = float("-inf")

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
