"""The operator put together: caches, queue, lease, streams, and what each tells the others."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

from zerotide.api.demand import Wake
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.failures import InvalidObject
from zerotide.api.generation import one_token
from zerotide.api.names import MANAGER_OPERATOR, SERVICE_ACCOUNT_OPERATOR
from zerotide.api.scalars import SECOND
from zerotide.api.urls import host_of
from zerotide.controller.activators import Activator, addresses
from zerotide.controller.admin import Admin
from zerotide.controller.cache import Endpoints, key_of
from zerotide.controller.classes import class_names
from zerotide.controller.costs import Costs
from zerotide.controller.executor import Executor
from zerotide.controller.learners import Learners
from zerotide.controller.metrics import Metrics
from zerotide.controller.options import Options
from zerotide.controller.pace import Pace
from zerotide.controller.pings import Pings, Replica
from zerotide.controller.prewarmers import Prewarmers
from zerotide.controller.proofs import Proofs
from zerotide.controller.proofs import Replica as Unproven
from zerotide.controller.queue import Queue
from zerotide.controller.reconciler import Reconciler, World
from zerotide.controller.schedule import Priority
from zerotide.controller.scrapes import Engine, Scrapes
from zerotide.controller.signals import Signals
from zerotide.controller.streams import Streams
from zerotide.controller.tokens import StreamToken
from zerotide.controller.watches import Heartbeat, Watches
from zerotide.kube import Client, Clock, Elector, KubeError, Recorder
from zerotide.kube.resources import INFERENCE_ENDPOINTS
from zerotide.reconcile.config import ServiceType
from zerotide.reconcile.engines.ping import ping
from zerotide.reconcile.pods import Pod, Stage
from zerotide.scaling.demand import View

log = logging.getLogger(__name__)

LEASE = "zerotide-operator"
SLICES_PER_SECOND = 200
STUCK = 10.0
BURST = 20
"""Endpoints that may be woken at once before a connection has to be made for one of them."""
TURNS = 6
"""Lists by which each endpoint is looked at once though nothing is new: to look at 10,000 takes half a minute."""
CALM = 0.1
"""Seconds for which changes of an endpoint's children and pods are gathered."""


class Operator:
    """One operator process, but for kopf, which only calls `on_event`."""

    def __init__(self, client: Client, options: Options, clock: Clock | None = None) -> None:
        self._client, self._options = client, options
        self._clock = clock or Clock()
        self._beat = Heartbeat()
        self.listed = asyncio.Event()
        self.led = asyncio.Event()
        """Set once this process works; before, kopf need not watch for it."""
        self._stopping = False
        self._ended: set[tuple[str, str]] = set()
        """Endpoints, by key and uid, whose end was told since the last list began: its pages may hold them yet."""
        self._lists = 0
        self.metrics = Metrics(options.max_endpoints)
        self.endpoints = Endpoints(on_rivals=self._look_at)
        self.queue = Queue(lambda key: self.reconciler.reconcile(key))
        self.metrics.depth.set_function(self.queue.__len__)
        self.recorder = Recorder(client, MANAGER_OPERATOR, options.identity)
        self.watches = Watches(
            client,
            options.namespace,
            self._clock,
            on_key=self._changed,
            on_activators=self._activators_changed,
            on_class=self._class_changed,
            on_namespace=self._namespace_changed,
            on_budget=self._look_at_all_of,
        )
        self.token = StreamToken(client, options.token_file, SERVICE_ACCOUNT_OPERATOR, options.namespace)
        self.streams = Streams(
            self.token,
            options.activator_port,
            self._clock,
            on_demand=self._demand_changed,
            on_wake=self._woken,
            on_membership=self._reports_changed,
        )
        self.scrapes = Scrapes(self._engines, on_change=self._demand_changed)
        self.pings = Pings(self._pinged, on_end=self.metrics.pinged, now_us=self._clock.now_us)
        prewarmers = Prewarmers(options.waiting_worth)
        self.signals = Signals(self.streams, Learners(options.waiting_worth), prewarmers, self.scrapes.said)
        self.elector = Elector(
            client,
            options.namespace,
            LEASE,
            options.identity,
            on_lost=self._lost,
            duration=options.lease,
            retry=options.lease / 5,
        )
        self.costs = Costs(options.exporter_url, options.exporter_token_file, on_change=self._cost_changed)
        self._addresses: tuple[str, ...] = ()
        self.executor = Executor(client, self.watches.children, self._leading, Pace(SLICES_PER_SECOND))
        self.proofs = Proofs(self._unproven, self._prove, self._clock.now_us)
        self.reconciler = Reconciler(
            self._world(), self.executor, options.config, self._clock, self.metrics, self.recorder, self.queue.add_after
        )
        self.admin = Admin(options.listen, options.port, self.metrics, unhealthy=self._unhealthy, unready=self._unready)

    def _world(self) -> World:
        return World(
            endpoints=self.endpoints,
            children=self.watches.children,
            pods=self.watches.pods,
            signals=self.signals,
            nodes=self.watches.nodes,
            classes=self.watches.classes,
            labels=self.watches.labels,
            addresses=lambda: self._addresses,
            costs=self.costs,
            withheld=self.watches.budgets.of,
        )

    def start(self) -> list[asyncio.Task[None]]:
        """Create every task that lives as long as the process."""
        make = asyncio.create_task
        tasks = [make(reflector.run(), name=f"watch {reflector.resource.plural}") for reflector in self.watches.all]
        tasks.append(make(self.recorder.run(), name="events"))
        tasks.append(make(self._pulse(), name="heartbeat"))
        tasks.append(make(self._resync(), name="resync"))
        tasks.append(make(self._lead(), name="lead"))
        if self._options.elect:
            tasks.append(make(self.elector.run(), name="lease"))
        return tasks

    async def stop(self) -> None:
        """Take no more work, end what is in work, and give the lease up."""
        self._stopping = True
        await self.queue.close(10.0)
        await self.streams.close()
        if self._options.elect:
            await self.elector.release()
        await self.admin.stop()

    def on_event(self, type_: str, obj: dict[str, Any]) -> None:
        """Take in an event of an endpoint: the first list's have no type."""
        key = key_of(obj)
        if type_ == "DELETED":
            self._gone(key, obj["metadata"]["uid"])
        elif self._put(key, obj):
            self._look(key, self._priority(obj, type_))

    def _look(self, key: str, priority: Priority = Priority.CHANGE) -> None:
        """Look at an endpoint, of which something has changed but its demand."""
        self.reconciler.ready.changed(key)
        self.queue.add(key, priority)

    def _put(self, key: str, obj: dict[str, Any]) -> bool:
        """Take in an endpoint; one whose name it has is gone, whether or not a watch told so."""
        predecessor = self.endpoints.replaced_by(obj)
        if predecessor:
            self._gone(key, predecessor)
        return self.endpoints.put(obj, self._clock.now_us())

    def _priority(self, obj: dict[str, Any], type_: str) -> Priority:
        status = obj.get("status") or {}
        wish = (status.get("wakeRequest") or {}).get("id")
        if wish and wish != status.get("handledWakeRequest"):
            return Priority.WAKE
        return Priority.CHANGE if type_ else Priority.SWEEP

    def _changed(self, key: str) -> None:
        # A start brings a dozen changes within half a second, none of which anybody waits for here.
        if key in self.endpoints:
            self.reconciler.ready.changed(key)
            self.queue.add_after(key, CALM)
        self.proofs.look()

    def _look_at(self, keys: Iterable[str]) -> None:
        """Look at endpoints when there is nothing better to do."""
        for key in keys:
            self._look(key, Priority.SWEEP)

    def _gone(self, key: str, uid: str) -> None:
        self._ended.add((key, uid))
        if not self.endpoints.drop(key, uid):
            return
        self.reconciler.forget(key)
        self.queue.forget(key)
        self.metrics.forget(key)
        self.costs.forget(key)
        self.scrapes.forget(key)
        log.info("endpoint gone", extra={"key": key})

    def _activators_changed(self, known: tuple[Activator, ...]) -> None:
        self.streams.expect(known)
        serving = addresses(known)
        if serving != self._addresses:
            self._addresses = serving
            if self._options.config.service_type is ServiceType.EXTERNAL_NAME:
                return  # nothing of an endpoint follows from the addresses
            self._look_at(self.endpoints)

    def _class_changed(self, name: str) -> None:
        self._look_at(key for key in self.endpoints if name in class_names(self.endpoints.get(key) or {}))

    def _namespace_changed(self, name: str) -> None:
        if self.watches.classes.selective:
            self._look_at_all_of(name)

    def _look_at_all_of(self, namespace: str) -> None:
        self._look_at(key for key in self.endpoints if key.startswith(f"{namespace}/"))

    def _reports_changed(self) -> None:
        # Whoever is awake may have waited for just that report; whoever sleeps does not care.
        self._look_at(self.endpoints.awake())

    def _demand_changed(self, key: str) -> None:
        now_us = self._clock.now_us()
        if self.reconciler.ready.called(key, self.endpoints.uid(key), self.streams.heard_us or now_us):
            self.queue.add(key, Priority.WAKE)
            return
        endpoint = self._parsed(key)
        if endpoint is None or not self.signals.matters(endpoint, now_us, self.streams.heard_us):
            return
        waiting = self.signals.load(endpoint, now_us).held and not endpoint.status.desired_replicas
        self.queue.add(key, Priority.WAKE if waiting else Priority.CHANGE)

    def _engines(self) -> Iterator[Engine]:
        for endpoint in filter(None, map(self._parsed, self.endpoints.scraped())):
            for uid, base in self._serving(endpoint):
                yield Engine(endpoint.key, uid, f"{base}/metrics")

    def _pinged(self) -> Iterator[Replica]:
        for endpoint in filter(None, map(self._parsed, self.endpoints.pinged())):
            if (asked := endpoint.spec.scaling.ping) is None:
                continue
            load, (path, body) = self.signals.load(endpoint, self._clock.now_us()), ping(endpoint)
            quiet_us = None if load.active or load.missing else load.last_request_us
            for uid, base in self._serving(endpoint):
                yield Replica(uid, f"{base}{path}", body, asked.interval.us, quiet_us)

    def _serving(self, endpoint: InferenceEndpoint) -> Iterator[tuple[str, str]]:
        """Yield uid and URL of each replica that serves."""
        for pod in self.watches.pods.of(endpoint.key):
            if pod.counts and pod.stage is Stage.READY and pod.address:
                yield pod.uid, _base(endpoint, pod)

    def _unproven(self) -> Iterator[Unproven]:
        for key, pod in self.watches.pods.gated():
            endpoint = self._parsed(key)
            if endpoint is None or pod.proof is None or not pod.counts:
                continue
            question = one_token(endpoint.spec.runtime.engine, endpoint.model_name, counted=True)
            base = _base(endpoint, pod) if pod.address else ""
            yield Unproven(endpoint.metadata.namespace, pod.name, pod.uid, pod.proof, base, question)

    async def _prove(self, replica: Unproven, condition: dict[str, Any]) -> None:
        await self.executor.write_pod_condition(replica.namespace, replica.name, replica.uid, condition)

    def _woken(self, view: View, wake: Wake) -> None:
        endpoint = self._parsed(wake.endpoint)
        if endpoint is None or endpoint.metadata.uid != wake.uid:
            return
        pods = self.watches.pods.of(endpoint.key)
        seen = self.watches.pods.starts.first(pods, view.here(wake.stamps.demand_us))
        record = self.signals.finish(endpoint, view, wake, seen)
        if record is not None:
            self.metrics.wake_served(record)
            self.queue.add(endpoint.key)

    def _cost_changed(self, key: str) -> None:
        if key in self.endpoints:
            self._look(key, Priority.SWEEP)

    def _parsed(self, key: str) -> InferenceEndpoint | None:
        try:
            return self.endpoints.parsed(key)
        except InvalidObject:
            return None

    async def _lead(self) -> None:
        """Become ready, wait for the lease, then work; a standby keeps its caches warm meanwhile, at its leisure."""
        await self.watches.wait_synced()
        await self.listed.wait()
        if self._options.elect:
            await self.elector.elected.wait()
        await asyncio.gather(self.watches.lead(), self._list())
        self.metrics.leading.set(1)
        log.info("leading", extra={"endpoints": len(self.endpoints), "identity": self._options.identity})
        await self.token.refresh()
        self.streams.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.token.run(), name="token")
            group.create_task(self.costs.run(), name="costs")
            group.create_task(self.scrapes.run(), name="engines")
            group.create_task(self.pings.run(), name="pings")
            group.create_task(self.proofs.run(), name="proofs")
            group.create_task(self._client.keep_ready(BURST), name="connections")
            for number in range(self._options.workers):
                group.create_task(self.queue.run(), name=f"worker {number}")
            self.led.set()

    async def _resync(self) -> None:
        """List the endpoints now and then: kopf's watch may miss deletions, and levels want to be looked at."""
        while True:
            await self._list()
            await asyncio.sleep(self._options.resync)

    async def _list(self) -> None:
        """Take in all endpoints, however long the API server takes to tell them."""
        while True:
            try:
                await self._take_all()
            except KubeError as error:
                log.warning("endpoints not listed", extra={"error": str(error)})
                await asyncio.sleep(1.0)
                continue
            self.listed.set()
            return

    async def _take_all(self) -> None:
        present: set[str] = set()
        listed = 0
        self._ended.clear()
        self._lists += 1
        async for page in self._client.pages(INFERENCE_ENDPOINTS):
            listed = int(page.resource_version)
            present |= self._take(page.items)
        self._sweep(present, listed)

    def _take(self, items: Iterable[dict[str, Any]]) -> set[str]:
        taken = set()
        for item in items:
            key = key_of(item)
            if (key, item["metadata"]["uid"]) in self._ended:
                continue
            new, priority = self._put(key, item), self._priority(self.endpoints.get(key) or item, "")
            if new or priority is Priority.WAKE or self._turn_of(key):
                self._look(key, priority)
            taken.add(key)
        return taken

    def _turn_of(self, key: str) -> bool:
        return crc32(key.encode()) % TURNS == self._lists % TURNS

    def _sweep(self, present: set[str], listed: int) -> None:
        for key, uid in self.endpoints.older_than(listed, but=present):
            self._gone(key, uid)

    async def _pulse(self) -> None:
        while True:
            self._beat.beat()
            self._keep_time()
            await asyncio.sleep(1.0)

    def _keep_time(self) -> None:
        """Take in that the machine's clock was set: what is timed goes on, and what goes by the clock is looked at."""
        step_us = self._clock.follow()
        if not step_us:
            return
        log.warning("the clock was set", extra={"seconds": step_us / SECOND})
        for each in (self.reconciler, self.watches.pods, self.signals):
            each.stepped(step_us)
        self.streams.anew()
        self._look_at(self.endpoints)

    def _leading(self) -> bool:
        return not self._options.elect or self.elector.leading

    def _lost(self) -> None:
        # Another process may write from now on. Nothing that is in flight here may finish with a write.
        log.critical("lease lost: ending at once")
        logging.shutdown()
        os._exit(1)

    def _unhealthy(self) -> str:
        if self._beat.late() > STUCK:
            return f"the event loop has been stuck for {self._beat.late():.0f} s"
        return self.watches.stale()

    def _unready(self) -> str:
        if self._stopping:
            return "stopping"
        if not self.listed.is_set():
            return "the InferenceEndpoints cannot be listed: is the CustomResourceDefinition installed?"
        return "" if self.watches.synced else "the watches have not listed yet"


def _base(endpoint: InferenceEndpoint, pod: Pod) -> str:
    """Return where a pod that has an address listens, without a path."""
    return f"http://{host_of(pod.address)}:{endpoint.spec.runtime.port}"
