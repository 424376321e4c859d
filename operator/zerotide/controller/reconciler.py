"""Reconcile one endpoint: observe, steer, scale; then plan the rest and carry it out.

The Deployment comes first, because a client may be waiting for it; whatever the plan adds comes after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from zerotide.api.conditions import State
from zerotide.api.endpoint import InferenceEndpoint, Status
from zerotide.api.failures import InvalidObject
from zerotide.api.scalars import MILLISECOND, SECOND
from zerotide.controller.cache import RECENT, Children, Endpoints, Pods
from zerotide.controller.classes import AcceleratorClasses
from zerotide.controller.costs import Costs
from zerotide.controller.executor import Executor
from zerotide.controller.metrics import Metrics
from zerotide.controller.ready import Ready
from zerotide.controller.recent import Recent
from zerotide.controller.rush import Rush
from zerotide.controller.signals import Signals
from zerotide.kube import Clock, Forbidden, Invalid, Notice, Recorder
from zerotide.reconcile.child import Kind
from zerotide.reconcile.choose import choose
from zerotide.reconcile.config import Config
from zerotide.reconcile.devices import Device, devices
from zerotide.reconcile.external import Writer, sight
from zerotide.reconcile.failures import PodForbidden, PodInvalid, RenderError
from zerotide.reconcile.observed import Object, Observed, Withheld
from zerotide.reconcile.plan import Delete, plan
from zerotide.reconcile.plan import Notice as Told
from zerotide.reconcile.pods import Stage
from zerotide.reconcile.prepared import prepared
from zerotide.reconcile.rendering import Rendering, render_all
from zerotide.reconcile.steer import Apply, Create, Steering, steer
from zerotide.scaling.decide import Why
from zerotide.scaling.demand import Serving

log = logging.getLogger(__name__)

Version = tuple[str, int, tuple[Device | None, ...]]
"""What a rendering follows from: an endpoint's uid and generation, and what its classes say."""

_FROM_THE_OBJECT = {Why.REQUEST, Why.ANNOTATION, Why.SLEEP_REQUESTED, Why.SUSPENDED}
AGAIN = 0.02
"""Seconds until the next look after an object was not as planned."""
RECORDED = 0.1
"""Seconds until the look that records a wake: others may be called meanwhile, and the Deployment's change is seen."""
NOBODYS = 1.0
"""Seconds until the next look after a status was for nobody: its endpoint is gone, and its watch is to tell so."""
GOOD_NEWS = 2.0
"""Seconds that an Event waits that tells of no failure."""
REFUSED_US = 30 * SECOND
"""Time until a Deployment is tried again that a policy or quota refused."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rendering that the API server refused, and until when it is not tried again (None: until it changes)."""

    digest: str
    error: RenderError
    until_us: int | None


@dataclass(frozen=True, slots=True)
class Held:
    """A status that is true but not written yet, since when, what is to be told with it, and whose it is."""

    status: Object
    since_us: int
    notices: tuple[Told, ...]
    uid: str


@dataclass
class World:
    """Everything that a reconciliation reads."""

    endpoints: Endpoints
    children: Children
    pods: Pods
    signals: Signals
    nodes: Callable[[], tuple[Object, ...]]
    classes: AcceleratorClasses
    labels: Callable[[str], Mapping[str, str]]
    """The labels of a namespace."""
    addresses: Callable[[], tuple[str, ...]]
    costs: Costs
    withheld: Callable[[InferenceEndpoint, int], Withheld | None]
    """Why none of an endpoint's replicas is kept without requests, at an instant."""


class Reconciler:
    """Bring endpoints to what their specs and their demand ask for, one key at a time."""

    def __init__(
        self,
        world: World,
        executor: Executor,
        config: Config,
        clock: Clock,
        metrics: Metrics,
        recorder: Recorder,
        later: Callable[[str, float], None],
    ) -> None:
        self._world, self._executor, self._config = world, executor, config
        self._clock, self._metrics, self._recorder, self._later = clock, metrics, recorder, later
        self._rendered: Recent[str, tuple[Version, tuple[Rendering, ...]]] = Recent(RECENT)
        self.ready = Ready(world.signals)
        self._refused: dict[str, Refusal] = {}
        self._written: dict[str, int] = {}
        self._held: dict[str, Held] = {}
        self._writers: dict[str, Writer] = {}
        self._rush = Rush()
        self._woken: dict[str, int] = {}
        """The replicas with which endpoints were woken by what was prepared, until a look has decided it."""

    async def reconcile(self, key: str) -> None:
        """Do one round for one endpoint; raise KubeError to be called again after a back-off."""
        began = self._clock.monotonic()
        if await self._wake(key):
            self._later(key, RECORDED)
            return
        try:
            endpoint = self._world.endpoints.parsed(key)
        except InvalidObject as error:
            # A version of the CRD that this operator does not understand: nothing sensible can be written.
            log.error("endpoint not understood", extra={"key": key, "error": str(error)})
            return
        if endpoint is None or endpoint.metadata.deletion_timestamp:
            return
        await self._executor.recheck_conflicts(key, endpoint.metadata.uid)
        self.ready.looked(key)
        now_us = self._clock.now_us()
        observed = self._observe(endpoint, now_us)
        rendering = self._rendering(observed, now_us)
        steering = steer(observed, rendering, self._config, now_us)
        # A new Deployment follows its other children: its pods need the ServiceAccount, and its name may be taken.
        new = isinstance(steering.move, Create)
        sound = new or await self._steer(key, endpoint, rendering, steering)
        if sound:
            sound = await self._rest(key, observed, rendering, steering, new)
        if not sound:
            self._later(key, AGAIN)
        self._metrics.reconciled(self._clock.monotonic() - began)

    def forget(self, key: str) -> None:
        """Forget an endpoint that is gone; its children follow it by their owner references."""
        self._rendered.pop(key)
        for table in (self._refused, self._written, self._held, self._writers):
            table.pop(key, None)
        self.ready.changed(key)
        self._woken.pop(key, None)
        self._rush.over(key)
        self._executor.forget(key)
        self._world.signals.forget(key)

    def stepped(self, step_us: int) -> None:
        """Move what is timed here along with a clock that was set."""
        self._rush.stepped(step_us)
        self._written = {key: time_us + step_us for key, time_us in self._written.items()}
        self._held = {key: replace(held, since_us=held.since_us + step_us) for key, held in self._held.items()}
        for key, refusal in self._refused.items():
            if refusal.until_us is not None:
                self._refused[key] = replace(refusal, until_us=refusal.until_us + step_us)

    async def _wake(self, key: str) -> bool:
        """Write what was prepared for an endpoint that is called, and tell whether it woke."""
        uid = self._world.endpoints.uid(key)
        if (ready := self.ready.take(key, uid)) is None:
            return False
        began_us = self._clock.now_us()
        try:
            sound = await self._executor.carry_out(key, ready.scale)
        except (Invalid, Forbidden):
            return False  # which the look meets again, and tells
        # Nobody called whoever has the name of one that ended meanwhile.
        if sound and self._world.endpoints.uid(key) == uid:
            self._woken[key] = ready.scale.replicas
            self._moved(key, Why.DEMAND, 0, ready.scale.replicas, began_us)
        return sound

    async def _steer(self, key: str, endpoint: InferenceEndpoint, rendering: Rendering, steering: Steering) -> bool:
        if steering.move is None:
            return True
        began = self._clock.now_us()
        try:
            sound = await self._executor.carry_out(key, steering.move)
        except (Invalid, Forbidden) as error:
            if _going(error):
                return True
            log.warning("Deployment refused", extra={"key": key, "error": str(error)})
            if isinstance(error, Invalid):
                self._refused[key] = Refusal(rendering.digest, PodInvalid(str(error)), None)
            else:
                until = self._clock.now_us() + REFUSED_US
                self._refused[key] = Refusal(rendering.digest, PodForbidden(str(error)), until)
            return False
        decision, before = steering.decision, self._woken.get(key, steering.situation.facts.replicas)
        if sound and decision.replicas != before:
            self._moved(key, decision.why, before, decision.replicas, began)
            if decision.why is Why.START_FAILED:
                self._metrics.wake_failed(self._world.signals.cause(endpoint))
        return sound

    def _moved(self, key: str, why: Why, before: int, replicas: int, began_us: int) -> None:
        """Note and tell that replicas were decided, and written since an instant."""
        if not before:
            self._rush.began(key, began_us)
            self._world.signals.started(key, why)
        self._metrics.decided(why)
        details = {
            "key": key,
            "from": before,
            "to": replicas,
            "why": why.value,
            "writeMs": (self._clock.now_us() - began_us) / MILLISECOND,
        }
        asked_us = self._asked_us(key, why)
        if asked_us is not None:
            details["planMs"] = (began_us - asked_us) / MILLISECOND
            if not before:
                self._metrics.wake_decided((began_us - asked_us) / SECOND)
        log.info("decided", extra=details)

    def _asked_us(self, key: str, why: Why) -> int | None:
        """Return when the news came that a decision follows from, None where it follows from time."""
        if why is Why.DEMAND:
            return self._world.signals.called_us(key)
        return self._world.endpoints.arrived_us(key) if why in _FROM_THE_OBJECT else None

    async def _rest(self, key: str, observed: Observed, rendering: Rendering, steering: Steering, new: bool) -> bool:
        endpoint, now_us = observed.endpoint, self._clock.now_us()
        planned = plan(observed, rendering, steering, self._config, now_us)
        if planned.verdict.state is State.AWAKE or not steering.decision.replicas:
            self._rush.over(key)
        self._metrics.state(endpoint, planned.verdict.state, steering.decision.replicas, observed)
        # Clients are answered from the status, so it does not wait for the other children; but where a name may
        # turn out to be taken, the status must not promise what it would take back at once.
        sound, careful = True, new or endpoint.status.state in (None, State.FAILED.value)
        if careful:
            sound = await self._write_children(key, planned.writes)
        if sound and new:
            sound = await self._steer(key, endpoint, rendering, steering)
        held = self._held.get(key)
        notices = (*(held.notices if held else ()), *planned.notices)
        status = planned.status if sound else None
        if sound and (new_status := status or planned.held) is not None:
            # What is written now is held until it is: if that fails, what was decided stays decided.
            since_us = held.since_us if held else now_us
            self._held[key] = Held(new_status, since_us, notices, endpoint.metadata.uid)
        elif sound:
            self._held.pop(key, None)
        if sound:
            self._woken.pop(key, None)
        if status is not None:
            if not await self._publish(key, endpoint, status, notices, now_us):
                return True
            self._held.pop(key, None)
        if sound:
            self._warn(key, planned.warnings)
        # Before what may be refused: a child that is, time after time, must not keep an endpoint awake.
        self._mind(key, observed, planned.again_us, now_us)
        if not careful:
            sound = await self._write_children(key, planned.writes) and sound
        if sound:
            live = self._world.children.one(Kind.DEPLOYMENT, key)
            self.ready.keep(key, prepared(observed, rendering, steering, live, now_us))
        return sound

    def _mind(self, key: str, observed: Observed, again_us: int | None, now_us: int) -> None:
        """Look again when time alone may call for it."""
        refusal = self._refused.get(key)
        pull_us = self._world.pods.starts.next_pull_us(observed.pods, now_us)
        for time_us in (again_us, pull_us, refusal.until_us if refusal else None):
            if time_us is not None:
                # A time that has passed must never make an endpoint spin.
                self._later(key, max(AGAIN, (time_us - self._clock.now_us()) / SECOND))

    async def _publish(
        self, key: str, endpoint: InferenceEndpoint, status: Object, notices: Iterable[Told], now_us: int
    ) -> bool:
        """Write a status and tell what goes with it; False where the endpoint is not there, or another one."""
        written = await self._executor.write_status(self._meta(endpoint), status)
        if written is None:
            self._later(key, NOBODYS)
            return False
        known = self._world.endpoints.get(key)
        if known is None:
            return False  # its end was told before the answer
        self._written[key] = now_us
        if self._world.endpoints.answered(written, now_us) and _by_others(known) != _by_others(written):
            # What others wrote meanwhile is in the answer, so the watch will bring no news of it.
            self.ready.changed(key)
            self._later(key, 0.0)
        for notice in notices:
            self._record(written, notice)
        return True

    def _record(self, obj: Object, notice: Told) -> None:
        told = Notice(notice.type, notice.reason, notice.message)
        # Good news has time: a pod may be starting right now, and the API server has enough to do.
        asyncio.get_running_loop().call_later(GOOD_NEWS, self._recorder.record, obj, told)

    def _warn(self, key: str, warnings: tuple[Told, ...]) -> None:
        obj = self._world.endpoints.get(key)
        if obj is None:
            return
        for warning in warnings:
            told = Notice(warning.type, warning.reason, warning.message)
            self._recorder.tell_once(obj, told, warning.once)

    async def _write_children(self, key: str, writes: tuple[Create | Apply | Delete, ...]) -> bool:
        """Do the writes in order up to one that met another object than was planned for: the next may rest on it."""
        for write in writes:
            try:
                if not await self._executor.carry_out(key, write):
                    return False
            except Forbidden as error:
                if not _going(error):
                    raise
        return True

    def _observe(self, endpoint: InferenceEndpoint, now_us: int) -> Observed:
        key, world = endpoint.key, self._world
        raw = world.endpoints.get(key) or {}
        held = self._held.get(key)
        if held is not None and held.uid == endpoint.metadata.uid:
            endpoint = _with_status(endpoint, held.status)
        pods = world.pods.of(key)
        ready = [pod.ready_us or 0 for pod in pods if pod.counts and pod.stage is Stage.READY]
        load = world.signals.load(endpoint, now_us, Serving(len(ready), min(ready, default=None)))
        withheld, learned = world.withheld(endpoint, now_us), world.signals.learned(endpoint, load, now_us)
        prewarmed = world.signals.prewarmed(endpoint, load, now_us, learned)
        if key in self._woken and not load.held:
            # Whoever left meanwhile takes no wake back.
            load = replace(load, held=1)
        if withheld is not None and prewarmed is not None:
            # Its status says what it would have done.
            prewarmed = replace(prewarmed, enabled=False)
        observed = Observed(
            endpoint=endpoint,
            status=raw.get("status") or {},
            children=world.children.of(key),
            conflicts=self._executor.conflicts(key),
            pods=pods,
            nodes=world.nodes(),
            pulls=world.pods.starts.pull_counts(pods, now_us),
            mounts=world.pods.starts.mounts(pods),
            activators=world.addresses(),
            load=load,
            window=world.signals.window(endpoint, load, now_us),
            learned=learned,
            prewarmed=prewarmed,
            withheld=withheld,
            finished=world.signals.finished(key),
            told=world.signals.told(key),
            spent=world.costs.of(key),
            names_taken=world.endpoints.claims.taken(key),
            holders=world.pods.holders() if any(pod.stage is Stage.UNSCHEDULABLE for pod in pods) else {},
            freed_us=world.pods.freed_us(key),
            written_us=self._written.get(key, 0),
            held_us=held.since_us if held else None,
            rush_us=self._rush.wait_us(now_us),
        )
        deployment, decided = observed.own(Kind.DEPLOYMENT), endpoint.status.desired_replicas
        writer = sight(deployment, decided, self._writers.pop(key, None), now_us)
        if writer is None:
            return observed
        self._writers[key] = writer
        return replace(observed, writer=writer)

    def _rendering(self, observed: Observed, now_us: int) -> Rendering:
        endpoint, key = observed.endpoint, observed.endpoint.key
        labels = self._world.labels(endpoint.metadata.namespace)
        choices = devices(endpoint, self._world.classes.known, labels)
        version = (endpoint.metadata.uid, endpoint.metadata.generation, choices)
        known = self._rendered.get(key)
        if known is None or known[0] != version:
            known = version, render_all(endpoint, self._config, choices)
            self._rendered.put(key, known)
        rendering, refusal = choose(known[1], observed, self._config, now_us), self._refused.get(key)
        if refusal is None:
            return rendering
        if refusal.digest != rendering.digest or (refusal.until_us is not None and now_us >= refusal.until_us):
            del self._refused[key]
            return rendering
        return replace(rendering, template=None, error=refusal.error)

    @staticmethod
    def _meta(endpoint: InferenceEndpoint) -> Object:
        meta = endpoint.metadata
        return {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}


def _by_others(obj: Object) -> tuple[object, ...]:
    """Return what others write of an endpoint and this acts upon."""
    metadata = obj["metadata"]
    wish = (obj.get("status") or {}).get("wakeRequest")
    return metadata["uid"], metadata.get("generation"), metadata.get("annotations"), metadata.get("labels"), wish


def _with_status(endpoint: InferenceEndpoint, status: Object) -> InferenceEndpoint:
    """Return an endpoint whose status is what we hold, and whose wish is what the activators wrote."""
    held = Status.read(status).model_copy(update={"wake_request": endpoint.status.wake_request})
    return endpoint.model_copy(update={"status": held})


def _going(error: Exception) -> bool:
    """Tell whether a refusal only says that the namespace is being deleted."""
    return "being terminated" in str(error)
