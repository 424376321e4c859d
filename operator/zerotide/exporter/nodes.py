"""Follow the nodes: a node that vanished stops the clock of its pods at its last proof of life.

Kubernetes marks such a node Ready=Unknown about 40 s after its kubelet fell silent; the kubelet's Lease tells when it
was last alive. When the node comes back, that is recorded as well and the fold forgets the loss.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from zerotide.billing.facts import Fact, Kind
from zerotide.billing.stamps import stamp
from zerotide.exporter.pods import PodMeter
from zerotide.kube import Change, Client, Forbidden, KubeError, NotFound, Object, Reflector
from zerotide.kube.resources import LEASES, NODES

log = logging.getLogger(__name__)

_LEASES = "kube-node-lease"
TRIES, PAUSE_S = 30, 1.0
"""How often a Lease is asked for that cannot be read, and seconds between."""


def trim(node: Object) -> Object:
    """Keep of a node what is looked at: its labels and whether it is ready."""
    metadata = node["metadata"]
    kept = {key: metadata[key] for key in ("name", "uid", "resourceVersion", "labels") if key in metadata}
    return {"metadata": kept, "status": {"conditions": [ready] if (ready := readiness(node)) else []}}


def readiness(node: Object) -> dict[str, Any] | None:
    """Return the node's Ready condition."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == "Ready"), None)


class NodeWatch:
    """Tell the pod meter when nodes vanish and return."""

    def __init__(self, client: Client, cluster: str) -> None:
        self.reflector = Reflector(client, NODES, trim=trim, on_change=self._changed)
        self._client, self._cluster = client, cluster
        self._changes: asyncio.Queue[Object] = asyncio.Queue()

    async def run(self, meter: PodMeter) -> None:
        """Report for ever; the reflector runs apart, since pods need its labels."""
        while True:
            node = await self._changes.get()
            await meter.reflector.synced.wait()
            meter.add(await self._facts(node, meter))

    def _changed(self, change: Change) -> None:
        before, after = readiness(change.previous or {}), readiness(change.object)
        turned = (before or {}).get("status") != (after or {}).get("status")
        if change.type == "set" and (change.previous is None or turned):
            self._changes.put_nowait(change.object)

    async def _facts(self, node: Object, meter: PodMeter) -> list[Fact]:
        name, ready = node["metadata"]["name"], readiness(node) or {}
        uids = [pod["metadata"]["uid"] for pod in meter.on_node(name)]
        if ready.get("status") == "Unknown":
            last = await self._last_life(name, ready)
            return [Fact(self._cluster, uid, Kind.LOST, name, last) for uid in uids if last]
        back = stamp(ready.get("lastTransitionTime"))
        if ready.get("status") == "True" and back is not None:
            lost = (uid for uid in uids if meter.has(uid, Kind.LOST))
            return [Fact(self._cluster, uid, Kind.ALIVE, name, back) for uid in lost]
        return []

    async def _last_life(self, name: str, ready: dict[str, Any]) -> int:
        """Return the newest of the kubelet's proofs of life from before its node was given up, 0 where there is none.

        A Lease that was renewed since is that of a node which is back: that must not be taken for its loss.
        """
        renewed = stamp(((await self._lease(name)).get("spec") or {}).get("renewTime"))
        given_up = stamp(ready.get("lastTransitionTime"))
        last = max(renewed or 0, stamp(ready.get("lastHeartbeatTime")) or 0)
        return last if given_up is None else min(last, given_up)

    async def _lease(self, name: str) -> Object:
        """Return a node's Lease; nothing where there is none, or the API server does not tell for long."""
        for _ in range(TRIES):
            try:
                return await self._client.get(LEASES, name, _LEASES)
            except (NotFound, Forbidden):
                break
            except KubeError as error:
                # Else its pods would be billed up to the last heartbeat alone, which may be minutes older.
                log.warning("a node's lease cannot be read", extra={"node": name, "error": str(error)})
                await asyncio.sleep(PAUSE_S)
        return {}
