"""A world of dictionaries in which plans are carried out, so that laws about plans can be tested without a server."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from tests.reconcile.helpers import CONFIG, NOW, raw
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND
from zerotide.reconcile.child import Kind
from zerotide.reconcile.choose import choose
from zerotide.reconcile.claims import Taken
from zerotide.reconcile.config import Config
from zerotide.reconcile.devices import Classes, devices
from zerotide.reconcile.external import Writer
from zerotide.reconcile.holders import Holders
from zerotide.reconcile.merge import merge
from zerotide.reconcile.observed import Observed, Spent, Told, Withheld
from zerotide.reconcile.plan import Delete, Notice, Plan, plan
from zerotide.reconcile.pods import Pod, Stage
from zerotide.reconcile.rendering import render_all
from zerotide.reconcile.steer import Apply, Create, Scale, Steering, steer
from zerotide.scaling.decide import wanted
from zerotide.scaling.demand import Load
from zerotide.scaling.learning.explain import Learned
from zerotide.scaling.policy import Policy
from zerotide.scaling.prewarm.prewarmed import Prewarmed
from zerotide.scaling.window import Window

Object = dict[str, Any]
QUIET = Load(reported_us=NOW * 2)


@dataclass
class World:
    """One endpoint, the objects that plans made of it, and a cluster that starts pods when told to."""

    obj: Object = field(default_factory=raw)
    config: Config = CONFIG
    now_us: int = NOW
    load: Load = QUIET
    window: Window = field(default_factory=Window)
    children: dict[Kind, Object] = field(default_factory=dict)
    conflicts: frozenset[Kind] = frozenset()
    pods: tuple[Pod, ...] = ()
    nodes: tuple[Object, ...] = ()
    classes: Classes = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    activators: tuple[str, ...] = ("10.0.0.1",)
    pulls: dict[str, int] = field(default_factory=dict)
    learned: Learned | None = None
    prewarmed: Prewarmed | None = None
    spent: Spent | None = None
    withheld: Withheld | None = None
    told: Told | None = None
    written_us: int = 0
    held: tuple[Object, int, tuple[Notice, ...]] | None = None
    writes: int = 0
    notices: list[Notice] = field(default_factory=list)
    warnings: dict[tuple[str, str], Notice] = field(default_factory=dict)
    """What was told once, by reason and by what it is told once for."""
    names_taken: tuple[Taken, ...] = ()
    writer: Writer | None = None
    holders: Holders = field(default_factory=dict)
    rush_us: int = 0
    freed_us: int = 0
    _uids: int = 0

    @property
    def status(self) -> Object:
        """Return the endpoint's status."""
        return self.obj.get("status") or {}

    @property
    def replicas(self) -> int:
        """Return what the Deployment asks for."""
        return int(self.children[Kind.DEPLOYMENT]["spec"]["replicas"])

    def condition(self, type_: str) -> Object:
        """Return a condition."""
        return next(item for item in self.status["conditions"] if item["type"] == type_)

    def spec(self, **changes: Any) -> None:
        """Change the spec, as a person does."""
        self.obj["spec"] = {**self.obj["spec"], **changes}
        self.obj["metadata"]["generation"] += 1

    def wish(self, id_: str) -> None:
        """Ask for a wake, as an activator does."""
        request = {"id": id_, "time": "2026-09-21T14:13:20Z", "by": "act-0"}
        self.obj["status"] = {**self.status, "wakeRequest": request}

    def step(self) -> tuple[Steering, Plan]:
        """Do one round."""
        steering, planned = self.look()
        if isinstance(steering.move, Scale):
            self._change(Kind.DEPLOYMENT, {"spec": {"replicas": steering.move.replicas}})
        for write in (steering.move, *planned.writes):
            match write:
                case Create() if write.child.kind not in self.children:
                    self._make(write.child.kind, write.child.object)
                case Apply():
                    assert self.children[write.child.kind]["metadata"]["uid"] == write.child.object["metadata"]["uid"]
                    self._change(write.child.kind, write.child.object)
                case Delete():
                    assert self.children.pop(write.kind)["metadata"]["uid"] == write.uid
                    self.writes += 1
                case _:
                    pass
        told = (*(self.held[2] if self.held else ()), *planned.notices)
        since = self.held[1] if self.held else self.now_us
        self.held = (planned.held, since, told) if planned.held is not None else None
        if planned.status is not None:
            kept = {"wakeRequest": self.status["wakeRequest"]} if "wakeRequest" in self.status else {}
            self.obj["status"] = {**copy.deepcopy(planned.status), **kept}
            self.written_us = self.now_us
            self.writes += 1
            self.notices += told
        for warning in planned.warnings:
            self.warnings.setdefault((warning.reason, warning.once), warning)
        return steering, planned

    def look(self) -> tuple[Steering, Plan]:
        """Plan one round without carrying it out."""
        endpoint = InferenceEndpoint.parse(self.obj)
        if self.held is not None:
            wish = {"wakeRequest": self.status["wakeRequest"]} if "wakeRequest" in self.status else {}
            endpoint = InferenceEndpoint.parse({**self.obj, "status": {**self.held[0], **wish}})
        policy = Policy.of(endpoint.spec)
        self.window = self.window.add(self.now_us, wanted(self.load, policy), policy.scale_down_us)
        observed = Observed(
            endpoint=endpoint,
            status=self.status,
            children=self.children,
            conflicts=self.conflicts,
            pods=self.pods,
            nodes=self.nodes,
            pulls=self.pulls,
            activators=self.activators,
            load=self.load,
            window=self.window,
            names_taken=self.names_taken,
            learned=self.learned,
            prewarmed=self.prewarmed,
            spent=self.spent,
            withheld=self.withheld,
            told=self.told,
            writer=self.writer,
            holders=self.holders,
            written_us=self.written_us,
            held_us=self.held[1] if self.held else None,
            rush_us=self.rush_us,
            freed_us=self.freed_us,
        )
        choices = render_all(endpoint, self.config, devices(endpoint, self.classes, self.labels))
        rendering = choose(choices, observed, self.config, self.now_us)
        self.seen = observed, rendering
        steering = steer(observed, rendering, self.config, self.now_us)
        return steering, plan(observed, rendering, steering, self.config, self.now_us)

    def settle(self, rounds: int = 6) -> int:
        """Go round until nothing is written; return in which round that was. Fail if it never is."""
        for number in range(rounds):
            before = self.writes
            self.step()
            if self.writes == before:
                return number
        raise AssertionError(f"still writing after {rounds} rounds: {self.status}")

    def run_pods(self, stage: Stage = Stage.READY, **fields: Any) -> None:
        """Have the cluster bring the pods that the Deployment asks for to a stage."""
        live = self.children[Kind.DEPLOYMENT]
        digest = live["spec"]["template"]["metadata"]["annotations"]["zerotide.dev/spec-digest"]
        made = self.now_us - self.now_us % SECOND
        known: Object = {
            "spec_digest": digest,
            "created_us": made,
            "stage": stage,
            "running": stage >= Stage.RUNNING,
            "leaving": False,
            "ended": False,
            "scheduled_us": made if stage >= Stage.SCHEDULED else None,
            "started_us": made if stage >= Stage.SCHEDULED else None,
            "ready_us": made,
            "spec": live["spec"]["template"]["spec"],
            "class_name": live["spec"]["template"]["metadata"]["labels"].get("zerotide.dev/accelerator-class", ""),
        }
        self.pods = tuple(Pod(name=f"a-{n}", uid=f"p{n}", **{**known, **fields}) for n in range(self.replicas))

    def pass_time(self, seconds: float) -> None:
        """Let time pass; the activators keep reporting."""
        self.now_us += int(seconds * SECOND)

    def _make(self, kind: Kind, obj: Object) -> None:
        self._uids += 1
        made = copy.deepcopy(obj)
        made["metadata"]["uid"] = f"child-{self._uids}"
        self.children[kind] = made
        self.writes += 1

    def _change(self, kind: Kind, obj: Object) -> None:
        live = self.children[kind]
        self.children[kind] = merge(live, obj) if kind is Kind.DEPLOYMENT else {**live, **obj}
        self.writes += 1


def truth(world: World) -> list[str]:
    """Return the statuses of the five conditions."""
    return [world.condition(t)["status"] for t in ("Ready", "Accepting", "Serving", "Reconciling", "Stalled")]


def awake(world: World | None = None) -> World:
    """Return a world whose endpoint serves."""
    world = world or World()
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods()
    world.step()
    world.settle()
    assert world.status["state"] == "Awake"
    return world
