"""The operator's own watches: what each collection is watched for, and which endpoints a change concerns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from zerotide.api.names import COMPONENT_ACTIVATOR, LABEL_COMPONENT, LABEL_ENDPOINT, LABEL_NAME, RELEASE
from zerotide.controller.activators import Activator, activators
from zerotide.controller.budgets import Budgets
from zerotide.controller.cache import Children, Pods, key_of
from zerotide.controller.classes import AcceleratorClasses
from zerotide.controller.kinds import RESOURCES
from zerotide.controller.trimming import trimmed_child, trimmed_namespace, trimmed_node, trimmed_pod
from zerotide.kube import Change, Client, Clock, Key, Linger, Packed, Reflector
from zerotide.kube.resources import ACCELERATOR_CLASSES, BUDGETS, EVENTS, NAMESPACES, NODES, PODS
from zerotide.reconcile.child import Kind

Object = dict[str, Any]
STANDBY = 5.0
"""Seconds that a standby lets changes wait: it only has to know them when it leads."""
REST = 0.5
"""Seconds between reads of what happens to children: mostly echoes, and a controller's notes in a status."""
RELIST = 600.0
"""Seconds between comparisons of what is mirrored with what there is, each of which takes seconds for thousands."""
STALE = 240.0
"""Seconds without a sign of life on a watch that its own recovery should never let happen."""


class Watches:
    """All watches but that of the endpoints; `on_key` is called for each endpoint that a change concerns."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        clock: Clock,
        *,
        on_key: Callable[[str], None],
        on_activators: Callable[[tuple[Activator, ...]], None],
        on_class: Callable[[str], None],
        on_namespace: Callable[[str], None],
        on_budget: Callable[[str], None],
    ) -> None:
        """`on_budget` is called with the namespace of a budget that withholds something from now on, or no more."""
        self._clock, self._on_key, self._on_activators = clock, on_key, on_activators
        self._on_namespace = on_namespace
        self.pods = Pods()
        self._linger = Linger(STANDBY)
        mirror = partial(Reflector, client, linger=self._linger, relist=RELIST)
        self._kinds: Mapping[Kind, Reflector] = {
            kind: mirror(
                resource,
                label_selector=LABEL_ENDPOINT,
                trim=trimmed_child,
                store=Packed(),
                rest=REST,
                known=self._child_known(kind),
                on_change=self._child_changed(kind),
                on_list=partial(self._children_listed, kind),
            )
            for kind, resource in RESOURCES.items()
        }
        self.children = Children(self._kinds, on_key)
        self._pods = mirror(
            PODS,
            label_selector=LABEL_ENDPOINT,
            trim=trimmed_pod,
            store=Packed(),
            on_change=self._pod_changed,
        )
        self._nodes = mirror(NODES, trim=trimmed_node)
        self._mounts = mirror(
            EVENTS,
            field_selector="involvedObject.kind=Pod,reason=FailedMount",
            on_change=self._mount_failed,
        )
        selector = f"{LABEL_NAME}={RELEASE},{LABEL_COMPONENT}={COMPONENT_ACTIVATOR}"
        self._activators = mirror(
            PODS,
            namespace,
            label_selector=selector,
            trim=trimmed_pod,
            on_change=self._activator_changed,
        )
        self.classes = AcceleratorClasses(on_class)
        self._classes = mirror(ACCELERATOR_CLASSES, on_change=self.classes.take)
        self.budgets = Budgets(on_budget)
        self._budgets = mirror(BUDGETS, on_change=self.budgets.take)
        self._namespaces = mirror(NAMESPACES, trim=trimmed_namespace, on_change=self._namespace_changed)
        self._key_of_pod: dict[str, str] = {}
        self._reporting: frozenset[str] = frozenset()

    @property
    def all(self) -> tuple[Reflector, ...]:
        """Return every reflector, to be run."""
        others = (
            self._pods,
            self._nodes,
            self._mounts,
            self._activators,
            self._classes,
            self._namespaces,
            self._budgets,
        )
        return (*self._kinds.values(), *others)

    @property
    def synced(self) -> bool:
        """Tell whether every watch has listed once."""
        return all(reflector.synced.is_set() for reflector in self.all)

    def stale(self) -> str:
        """Return which watch has been silent for too long, or an empty string."""
        for reflector in self.all:
            if reflector.synced.is_set() and reflector.age() > STALE:
                return f"no sign of life on the watch of {reflector.resource.plural} for {reflector.age():.0f} s"
        return ""

    def nodes(self) -> tuple[Object, ...]:
        """Return all nodes, trimmed."""
        return tuple(self._nodes.store.values())

    def labels(self, namespace: str) -> Mapping[str, str]:
        """Return the labels of a namespace; none of one that is not known."""
        known = self._namespaces.store.get(("", namespace))
        return known["metadata"]["labels"] if known is not None else {}

    def activators(self) -> tuple[Activator, ...]:
        """Return the activators."""
        found = activators(self._activators.store.values(), self._reporting)
        self._reporting = frozenset(activator.uid for activator in found)
        return found

    async def wait_synced(self) -> None:
        """Wait until every watch has listed once."""
        for reflector in self.all:
            await reflector.synced.wait()

    async def lead(self) -> None:
        """Take changes in as they come from now on; return once all that came before are."""
        self._linger.over.set()
        for reflector in self.all:
            await reflector.caught_up()

    def _children_listed(self, kind: Kind, number: int) -> None:
        self.children.listed(kind, number)

    def _child_known(self, kind: Kind) -> Callable[[Key, str], Object | None]:
        return lambda key, version: self.children.answered(kind, f"{key[0]}/{key[1]}", version)

    def _child_changed(self, kind: Kind) -> Callable[[Change], None]:
        def changed(change: Change) -> None:
            # Most changes are the echo of what was written here, or a controller's notes in a status that nobody reads.
            if self.children.caught_up(kind, change):
                self._on_key(key_of(change.object))

        return changed

    def _pod_changed(self, change: Change) -> None:
        key = self.pods.take(change, self._clock.now_us())
        uid = change.object["metadata"]["uid"]
        if key is None:
            return
        if change.type == "deleted":
            self._key_of_pod.pop(uid, None)
        else:
            self._key_of_pod[uid] = key
        self._on_key(key)

    def _mount_failed(self, change: Change) -> None:
        if change.type == "deleted":
            return
        uid = self.pods.starts.mount_failed(change.object)
        key = self._key_of_pod.get(uid or "")
        if key is not None:
            self._on_key(key)

    def _namespace_changed(self, change: Change) -> None:
        before, after = change.previous, change.object["metadata"]
        if change.type == "set" and (before is None or before["metadata"]["labels"] != after["labels"]):
            self._on_namespace(after["name"])

    def _activator_changed(self, _: Change) -> None:
        self._on_activators(self.activators())


class Heartbeat:
    """Notice an event loop that is stuck."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()

    def beat(self) -> None:
        """Note that the loop runs."""
        self._at = self._clock()

    def late(self) -> float:
        """Return the seconds since the last beat."""
        return self._clock() - self._at
