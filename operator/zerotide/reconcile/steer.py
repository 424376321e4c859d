"""Steer an endpoint: decide its replicas and what that means for its Deployment, before anything else.

This is the way of a wake from the watch to the scale, so it comes first and does no more than it must. The template
is applied when the spec changed, or repaired when somebody changed it; one that only a newer operator would render
differently stays until the endpoint wakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zerotide.api import names
from zerotide.reconcile.child import Child, Kind
from zerotide.reconcile.config import Config
from zerotide.reconcile.deployment import REPLACE, SURGE, annotation, deployment, replicas_of
from zerotide.reconcile.diagnosis import Finding
from zerotide.reconcile.drift import difference
from zerotide.reconcile.observed import Observed
from zerotide.reconcile.pods import Stage
from zerotide.reconcile.rendering import ANNOTATION_SPEC_DIGEST, Rendering
from zerotide.reconcile.situation import Situation, situation
from zerotide.reconcile.verifying import Verification, ended
from zerotide.scaling.decide import Decision, decide

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object; if the name is taken, nothing of it may be changed."""

    child: Child


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply an object of ours, known by its uid, which the object carries; `drift` is the field that differs."""

    child: Child
    drift: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Change nothing of the Deployment, known by its uid, but its replicas."""

    uid: str
    replicas: int


Move = Create | Apply | Scale


@dataclass(frozen=True, slots=True)
class Steering:
    """What was decided, from which situation, and the one write to the Deployment that it takes, if any."""

    decision: Decision
    situation: Situation
    move: Move | None

    @property
    def finding(self) -> Finding | None:
        """Return why no replica serves or may be started, if anything stands in the way."""
        return self.situation.obstacle or self.situation.finding

    @property
    def verification(self) -> Verification | None:
        """Return whether the present spec was proven to start, once the decision is carried out."""
        known, where = self.situation.verification, self.situation
        if known is None or not where.facts.replicas or self.decision.replicas:
            return known
        return ended(known, self.decision, where.roll_out or self.finding, where.policy.max_failures)


def steer(observed: Observed, rendering: Rendering, config: Config, now_us: int) -> Steering:
    """Return the decision and the write to the Deployment that it takes."""
    where = situation(observed, rendering, config, now_us)
    decision = decide(where.policy, observed.load, observed.window, where.facts, now_us)
    return Steering(decision, where, _move(observed, rendering, where, decision, now_us))


def _move(observed: Observed, rendering: Rendering, where: Situation, decision: Decision, now_us: int) -> Move | None:
    endpoint, live = observed.endpoint, observed.own(Kind.DEPLOYMENT)
    if live is None:
        if rendering.template is None or observed.taken(Kind.DEPLOYMENT):
            return None
        made = deployment(endpoint, rendering.template, rendering.digest, decision.replicas, SURGE)
        return Create(made)
    if "deletionTimestamp" in live["metadata"]:
        return None
    uid, replicas = str(live["metadata"]["uid"]), replicas_of(live)
    scale = Scale(uid, decision.replicas) if replicas != decision.replicas else None
    if rendering.template is None:
        return scale
    template = live["spec"]["template"]
    changed = annotation(template, ANNOTATION_SPEC_DIGEST) != rendering.spec_digest
    stale = annotation(live, names.ANNOTATION_RENDERED_DIGEST) != rendering.digest
    if stale and not changed and not (replicas == 0 and decision.replicas):
        return scale
    strategy = _strategy(live, where, changed, now_us)
    child = deployment(endpoint, rendering.template, rendering.digest, decision.replicas, strategy)
    # Replicas aside, is there anything to apply? If not, the cheaper write will do.
    still = {**child.object, "spec": {**child.object["spec"], "replicas": replicas}}
    drift = difference(live, still)
    if drift is None:
        return scale
    child.object["metadata"]["uid"] = uid
    return Apply(child, drift)


def _strategy(live: Object, where: Situation, changed: bool, now_us: int) -> Object:
    """Choose how pods are replaced: without a gap, but where that cannot work or there is nothing to keep."""
    pods = bool(where.current or where.serving)
    if changed:
        return SURGE if where.serving or (not pods and not _has_pods(live)) else REPLACE
    stuck = where.serving and any(
        pod.stage is Stage.UNSCHEDULABLE and now_us >= pod.created_us + where.policy.capacity_us
        for pod in where.current
    )
    if stuck:
        return REPLACE
    present = live["spec"].get("strategy") or {}
    return REPLACE if difference(present, REPLACE) is None else SURGE


def _has_pods(live: Object) -> bool:
    return bool((live.get("status") or {}).get("replicas"))
