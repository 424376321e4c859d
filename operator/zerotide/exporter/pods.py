"""Follow the replicas: write down what each pod object proves, then let finished pods go.

A fact is read out at the very event that shows it and is committed before anything depends on it. Only then is the
meter's finalizer taken off a pod that holds nothing any more, so a pod that dies while the exporter is down waits to
be read. A pod that left without being read is `gone` from the moment it was missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from zerotide.api.names import FINALIZER_LEDGER, LABEL_ENDPOINT, MANAGER_EXPORTER
from zerotide.billing.extract import gone_fact, is_over, pod_facts, releasable, seen_facts
from zerotide.billing.facts import END_RANK, Fact, Kind
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Change, Client, Key, KubeError, Linger, NotFound, Object, Reflector, key_of
from zerotide.kube.clock import Clock
from zerotide.kube.resources import PODS

log = logging.getLogger(__name__)

Context = Callable[[Object], tuple[str, Object | None]]
"""Tell the accelerator class that a pod's endpoint names, and the node that it is bound to."""

LEISURE = 0.5
"""Seconds that changes wait: facts carry the API server's stamps, and a pod that starts needs the processor more."""
ENDING = b'"deletionTimestamp"'
"""What does not wait: a pod that goes waits for us."""

_ONCE = frozenset({Kind.ACCELERATOR, Kind.BACKOFF})
"""Facts that stand as they were first seen: later sights of the same pod would only repeat or contradict them."""


class PodMeter:
    """Record facts about all pods of endpoints, and release those that are over."""

    def __init__(self, client: Client, store: Threaded[Store], clock: Clock, context: Context, cluster: str) -> None:
        self.reflector = Reflector(
            client, PODS, label_selector=LABEL_ENDPOINT, on_change=self._changed, linger=Linger(LEISURE, ENDING)
        )
        self._client, self._store, self._clock, self._context = client, store, clock, context
        self._cluster = cluster
        self._pending: dict[Fact, int] = {}
        self._recorded: dict[str, set[Fact]] = {}
        self._kinds: dict[str, set[str]] = {}
        self._waiting: dict[Key, Object] = {}
        self._work = asyncio.Event()

    async def run(self) -> None:
        """Record and release for ever."""
        living = await self._store.insist(lambda store: store.living(self._cluster))
        self._kinds = {pod_uid: set(kinds) for pod_uid, kinds in living.items()}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.reflector.run())
            await self.reflector.synced.wait()
            present = {pod["metadata"]["uid"] for pod in self.reflector.store.values()}
            self.add(gone_fact(self._cluster, uid, self._clock.now_us()) for uid in living.keys() - present)
            tasks.create_task(self._write())

    def add(self, facts: Iterable[Fact]) -> None:
        """Record facts as soon as the store takes them; those that are recorded already cost nothing."""
        now_us = self._clock.now_us()
        for fact in facts:
            if fact not in self._recorded.get(fact.pod_uid, ()):
                self._pending.setdefault(fact, now_us)
                self._kinds.setdefault(fact.pod_uid, set()).add(fact.kind)
        self._work.set()

    def on_node(self, node: str) -> list[Object]:
        """Return the pods that hold something of a node."""
        return [
            pod
            for pod in self.reflector.store.values()
            if (pod.get("spec") or {}).get("nodeName") == node and not is_over(pod)
        ]

    def has(self, pod_uid: str, kind: Kind) -> bool:
        """Tell whether a fact of this kind is known about a pod."""
        return kind in self._kinds.get(pod_uid, ())

    @property
    def awaiting_release(self) -> int:
        """Return how many finished pods still carry the meter's finalizer."""
        return len(self._waiting)

    @property
    def lag_us(self) -> int:
        """Return for how long the oldest fact has been waiting to be recorded."""
        return max((self._clock.now_us() - since for since in self._pending.values()), default=0)

    async def flush(self) -> None:
        """Record everything that is waiting. Raises StoreError."""
        facts = list(self._pending)
        if not facts:
            return
        now_us = self._clock.now_us()
        await self._store.insist(lambda store: store.add_facts(facts, now_us))
        for fact in facts:
            self._pending.pop(fact, None)
            if fact.pod_uid in self._recorded:
                self._recorded[fact.pod_uid].add(fact)

    def _changed(self, change: Change) -> None:
        pod = change.object
        uid = pod["metadata"]["uid"]
        class_name, node = self._context(pod)
        now_us = self._clock.now_us()
        self._recorded.setdefault(uid, set())
        facts = [
            fact
            for fact in pod_facts(self._cluster, pod, class_name=class_name, node=node)
            + seen_facts(self._cluster, pod, now_us)
            if fact.kind not in _ONCE or not self.has(uid, Kind(fact.kind))
        ]
        ended = self._kinds.get(uid, set()) | {fact.kind for fact in facts}
        if (change.type == "deleted" or is_over(pod)) and not ended & END_RANK.keys():
            facts.append(gone_fact(self._cluster, uid, now_us))
        self.add(facts)
        if change.type == "deleted":
            self._waiting.pop(key_of(pod), None)
            self._recorded.pop(uid, None)
            self._kinds.pop(uid, None)
        elif releasable(pod):
            self._waiting[key_of(pod)] = pod
        else:
            self._waiting.pop(key_of(pod), None)

    async def _write(self) -> None:
        while True:
            try:
                async with asyncio.timeout(1.0 if self._waiting else None):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._work.clear()
            ready = list(self._waiting.values())
            await self.flush()
            for start in range(0, len(ready), 16):
                await asyncio.gather(*(self._release(pod) for pod in ready[start : start + 16]))

    async def _release(self, pod: Object) -> None:
        """Take our finalizer off, and nothing else: the patch fails if the object or its list is another by now."""
        metadata = pod["metadata"]
        finalizers = metadata["finalizers"]
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "test", "path": "/metadata/finalizers", "value": finalizers},
            {"op": "remove", "path": f"/metadata/finalizers/{finalizers.index(FINALIZER_LEDGER)}"},
        ]
        where = {"namespace": metadata["namespace"], "pod": metadata["name"]}
        try:
            await self._client.patch(
                PODS, metadata["name"], metadata["namespace"], patch, kind="json", manager=MANAGER_EXPORTER
            )
        except NotFound:
            pass
        except KubeError as error:
            # A newer version of the object brings its own event; otherwise the next round tries again.
            log.warning("pod not released", extra={**where, "error": str(error)})
            return
        else:
            log.info("pod released", extra=where)
        if self._waiting.get(key_of(pod)) is pod:
            del self._waiting[key_of(pod)]
