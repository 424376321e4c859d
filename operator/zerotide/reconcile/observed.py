"""Everything that a plan is made from: one endpoint, its children and pods, and what is known around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zerotide.api.cost import Cost
from zerotide.api.demand import Weights
from zerotide.api.endpoint import InferenceEndpoint, LastWake
from zerotide.api.scalars import parse_time
from zerotide.reconcile.child import Kind
from zerotide.reconcile.claims import Taken
from zerotide.reconcile.deployment import replicas_of
from zerotide.reconcile.external import Writer
from zerotide.reconcile.holders import Holders
from zerotide.reconcile.ownership import Owner, owner
from zerotide.reconcile.pods import Pod, Stage
from zerotide.scaling.demand import Load
from zerotide.scaling.learning.explain import Learned
from zerotide.scaling.prewarm.prewarmed import Prewarmed
from zerotide.scaling.window import Window

Object = dict[str, Any]


class Spent(NamedTuple):
    """What an endpoint cost, as the exporter told; `final` says that all its pods are over and counted."""

    cost: Cost
    final: bool


class Withheld(NamedTuple):
    """Why a budget lets no replica be kept without requests, and until when that is sure, None for ever."""

    reason: str
    until_us: int | None


class Told(NamedTuple):
    """What a runtime told of the weights at a `model.uri`."""

    uri: str
    weights: Weights


@dataclass(frozen=True, slots=True)
class Observed:
    """One endpoint as the caches have it.

    `children` are the live objects of its name that carry its label, whoever controls them. `conflicts` are kinds
    whose creation the API server refused because an object without the label has the name. `pulls` counts back-offs
    of image pulls and `mounts` holds the last message of a volume that does not mount, both by pod uid. `activators`
    are the addresses of the ready ones. `written_us` is when this process wrote the status last, 0 for never. Where a
    step of a start waits to be written since `held_us`, the endpoint's status is that step, and `status` is not yet.
    `finished` is the newest finished wake, if it is not in the status yet. `names_taken` are its model names that are
    not its own. `writer` is who else wrote the Deployment's replicas lately. `learned` is the idle timeout that was
    learned, None where the spec's own holds. `prewarmed` is what habits foretell, None where it is disabled.
    `spent` is what it cost, None while the exporter has not told. `withheld` is why none is kept without requests.
    `told` is what a runtime said of its model, where that may not be in the status yet.
    """

    endpoint: InferenceEndpoint
    status: Mapping[str, Any] = field(default_factory=dict)
    """The status as the API server sent it."""
    children: Mapping[Kind, Object] = field(default_factory=dict)
    conflicts: frozenset[Kind] = frozenset()
    pods: tuple[Pod, ...] = ()
    nodes: tuple[Object, ...] = ()
    pulls: Mapping[str, int] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    activators: tuple[str, ...] = ()
    load: Load = field(default_factory=Load)
    window: Window = field(default_factory=Window)
    finished: LastWake | None = None
    names_taken: tuple[Taken, ...] = ()
    writer: Writer | None = None
    learned: Learned | None = None
    prewarmed: Prewarmed | None = None
    spent: Spent | None = None
    withheld: Withheld | None = None
    told: Told | None = None
    holders: Holders = field(default_factory=dict)
    """Who holds devices, where a replica waits for some."""
    freed_us: int = 0
    """When a replica that left gave its room back last, 0 where nobody saw it."""
    written_us: int = 0
    held_us: int | None = None
    rush_us: int = 0
    """How long what nobody waits for should wait for other endpoints' starts."""

    @property
    def decided(self) -> int:
        """Return the replicas that were decided last: ours in the status, not what somebody made of the Deployment."""
        known = self.endpoint.status.desired_replicas
        return replicas_of(self.own(Kind.DEPLOYMENT)) if known is None else known

    def unserved_us(self, now_us: int) -> int:
        """Return since when no replica has the room, as far as is known; 0 while one serves, or where none ever did.

        One that waits for the room of another has waited since then, and not since it was made. While that one ends
        its requests nobody has waited in vain.
        """
        if any(pod.counts and pod.stage is Stage.READY for pod in self.pods):
            return 0
        serving = self.endpoint.status.condition("Serving")
        if serving is None:
            return 0
        if serving.status == "True" or any(pod.drains(now_us) for pod in self.pods):
            return now_us
        return max(parse_time(serving.last_transition_time), self.freed_us)

    def owner_of(self, kind: Kind) -> Owner | None:
        """Return whose the live object of a kind is, None where there is none."""
        live, meta = self.children.get(kind), self.endpoint.metadata
        return owner(live, meta.name, meta.uid) if live is not None else None

    def own(self, kind: Kind) -> Object | None:
        """Return the live object of a kind if it is this endpoint's."""
        return self.children[kind] if self.owner_of(kind) is Owner.OURS else None

    def taken(self, kind: Kind) -> bool:
        """Tell whether the name is somebody else's for this kind, or a predecessor's that is going."""
        return kind in self.conflicts or self.owner_of(kind) in (Owner.FOREIGN, Owner.PREDECESSOR)
