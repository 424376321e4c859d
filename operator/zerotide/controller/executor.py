"""Carry out what was planned, one write at a time; every write is fenced by the lease and by the object's uid.

Names that are taken are remembered per endpoint, until the next try. A write that found its object changed or gone
is not repeated here: the watch brings the news, and the next plan starts from it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from zerotide.api.names import MANAGER_OPERATOR
from zerotide.controller.cache import Children, Object
from zerotide.controller.failures import NotLeading
from zerotide.controller.kinds import RESOURCES
from zerotide.controller.pace import Pace
from zerotide.kube import AlreadyExists, Client, Conflict, Invalid, NotFound
from zerotide.kube.resources import DEPLOYMENTS, INFERENCE_ENDPOINTS, PODS
from zerotide.reconcile.child import Child, Kind
from zerotide.reconcile.fields import joined
from zerotide.reconcile.ownership import Owner, owner
from zerotide.reconcile.plan import Delete
from zerotide.reconcile.steer import Apply, Create, Scale

log = logging.getLogger(__name__)

RECHECK = 10.0
"""Seconds after which a name that was taken is looked at again."""

TOLD = {Kind.DEPLOYMENT: logging.INFO}
"""The child whose making is worth a line: the others come with it."""

Meta = Mapping[str, Any]


class Executor:
    """The writes of the operator."""

    def __init__(
        self,
        client: Client,
        children: Children,
        leading: Callable[[], bool],
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._children, self._leading, self._pace = client, children, leading, pace
        self._clock = clock
        self._taken: dict[str, dict[Kind, float]] = {}
        self._joined: set[str] = set()

    def conflicts(self, key: str) -> frozenset[Kind]:
        """Return the kinds for which somebody else has the endpoint's name."""
        return frozenset(self._taken.get(key, ()))

    def forget(self, key: str) -> None:
        """Forget an endpoint that is gone."""
        self._taken.pop(key, None)
        for kind, obj in self._children.of(key).items():
            self._joined.discard(obj["metadata"]["uid"])
            self._children.lost(kind, key)

    async def recheck_conflicts(self, key: str, uid: str) -> None:
        """See, now and then, whether names that were taken are free now."""
        taken = self._taken.get(key)
        if not taken:
            return
        namespace, _, name = key.partition("/")
        for kind in [kind for kind, seen in taken.items() if self._clock() - seen >= RECHECK]:
            taken[kind] = self._clock()
            try:
                live = await self._client.get(RESOURCES[kind], name, namespace)
            except NotFound:
                del taken[kind]
                continue
            if owner(live, name, uid) is not Owner.FOREIGN:
                del taken[kind]

    async def carry_out(self, key: str, write: Create | Apply | Scale | Delete) -> bool:
        """Do one write; return False if the object was not as planned, so that a new plan is needed."""
        self._fence()
        try:
            match write:
                case Create():
                    return await self._create(key, write.child)
                case Apply():
                    await self._apply(key, write)
                case Scale():
                    await self._scale(key, write)
                case Delete():
                    await self._delete(key, write)
        except (NotFound, Conflict) as error:
            kind = write.child.kind if isinstance(write, Apply) else getattr(write, "kind", Kind.DEPLOYMENT)
            log.info("object changed meanwhile", extra={"key": key, "kind": kind.value, "error": str(error)})
            self._children.lost(kind, key)
            return False
        return True

    async def write_pod_condition(self, namespace: str, name: str, uid: str, condition: Object) -> None:
        """Write one condition of a pod, whoever writes the others; one that is gone, or has a successor, needs none."""
        self._fence()
        body = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                PODS, name, namespace, body, kind="strategic", subresource="status", manager=MANAGER_OPERATOR
            )
        except (NotFound, Conflict) as error:
            log.info("pod changed meanwhile", extra={"pod": f"{namespace}/{name}", "error": str(error)})

    async def write_status(self, metadata: Meta, status: Object) -> Object | None:
        """Write an endpoint's status; None if the endpoint is gone or has a successor."""
        self._fence()
        body = {
            "metadata": {name: metadata[name] for name in ("name", "namespace", "uid")},
            "status": status,
        }
        try:
            return await self._client.apply(INFERENCE_ENDPOINTS, body, MANAGER_OPERATOR, subresource="status")
        except (NotFound, Conflict):
            return None

    async def _create(self, key: str, child: Child) -> bool:
        resource = RESOURCES[child.kind]
        await self._paced(child.kind)
        with self._children.writing(child.kind, key):
            try:
                made = await self._client.create(resource, child.object, manager=MANAGER_OPERATOR)
            except AlreadyExists:
                return await self._met(key, child)
            self._children.wrote(child.kind, key, made)
        log.log(TOLD.get(child.kind, logging.DEBUG), "created", extra={"key": key, "kind": child.kind.value})
        return True

    async def _met(self, key: str, child: Child) -> bool:
        """See whose the object is that has the name already."""
        namespace, _, name = key.partition("/")
        live = await self._client.get(RESOURCES[child.kind], name, namespace)
        uid = child.object["metadata"]["ownerReferences"][0]["uid"]
        whose = owner(live, name, uid)
        if whose is Owner.FOREIGN:
            log.warning("name taken", extra={"key": key, "kind": child.kind.value})
            self._taken.setdefault(key, {})[child.kind] = self._clock()
        else:
            self._children.wrote(child.kind, key, live)
        return False

    async def _apply(self, key: str, write: Apply) -> None:
        child = write.child
        resource = RESOURCES[child.kind]
        await self._paced(child.kind)
        await self._own_fields(child)
        with self._children.writing(child.kind, key):
            made = await self._client.apply(resource, child.object, MANAGER_OPERATOR)
            self._children.wrote(child.kind, key, made)
        log.info("applied", extra={"key": key, "kind": child.kind.value, "field": write.drift})

    async def _own_fields(self, child: Child) -> None:
        """Join what a POST or a patch of ours owns with our applies; or an apply could never drop a field."""
        resource, metadata = RESOURCES[child.kind], child.object["metadata"]
        if metadata["uid"] in self._joined:
            return
        live = await self._client.get(resource, metadata["name"], metadata["namespace"])
        if live["metadata"]["uid"] != metadata["uid"]:
            raise Conflict(409, "Conflict", "the object has a successor")
        entries = joined(live["metadata"].get("managedFields") or [], MANAGER_OPERATOR)
        if entries is None:
            self._joined.add(metadata["uid"])
            return
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        ]
        name, namespace = metadata["name"], metadata["namespace"]
        await self._client.patch(resource, name, namespace, patch, kind="json", manager=MANAGER_OPERATOR)
        self._joined.add(metadata["uid"])

    async def _scale(self, key: str, write: Scale) -> None:
        namespace, _, name = key.partition("/")
        patch = {"metadata": {"uid": write.uid}, "spec": {"replicas": write.replicas}}
        with self._children.writing(Kind.DEPLOYMENT, key):
            try:
                made = await self._client.patch(DEPLOYMENTS, name, namespace, patch, manager=MANAGER_OPERATOR)
            except Invalid as error:
                raise Conflict(409, "Conflict", f"the Deployment has a successor: {error}") from error
            self._children.wrote(Kind.DEPLOYMENT, key, made)

    async def _delete(self, key: str, write: Delete) -> None:
        namespace, _, name = key.partition("/")
        await self._paced(write.kind)
        await self._client.delete(RESOURCES[write.kind], name, namespace, uid=write.uid)
        log.info("deleted", extra={"key": key, "kind": write.kind.value})
        self._children.lost(write.kind, key)

    async def _paced(self, kind: Kind) -> None:
        if kind is Kind.ENDPOINT_SLICE:
            await asyncio.sleep(self._pace.delay())
            self._fence()

    def _fence(self) -> None:
        if not self._leading():
            raise NotLeading("the lease is not held")
