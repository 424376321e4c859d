"""The activator put together: what runs, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Sequence
from socket import socket
from typing import Any

from zerotide.activator.access.figures import TokenFigures
from zerotide.activator.access.loading import Loader
from zerotide.activator.admin.app import Admin
from zerotide.activator.admission.naming import Name
from zerotide.activator.council.links import Links
from zerotide.activator.demand.stream import Stream
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints import pods
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.endpoints.waker import Waker
from zerotide.activator.failures import ShuttingDown
from zerotide.activator.metrics import Load, Metrics
from zerotide.activator.processes.member import Member
from zerotide.activator.quota.birth import birth
from zerotide.activator.quota.client import QuotaClient
from zerotide.activator.quota.office import Process
from zerotide.activator.quota.quota import Quota
from zerotide.activator.settings import Settings
from zerotide.activator.traffic.abroad import Envoy
from zerotide.activator.traffic.books import Books
from zerotide.activator.traffic.forwarder import Forwarder
from zerotide.activator.traffic.gateway import Gateway
from zerotide.activator.traffic.holder import Holder
from zerotide.activator.traffic.replies import answer_to_fault
from zerotide.activator.usage.figures import UsageFigures
from zerotide.activator.usage.records import Records
from zerotide.activator.wire import Certificate, Limits, Network, Server, open_socket
from zerotide.activator.wire_metrics import WireFigures
from zerotide.api.names import AUDIENCE_ACTIVATOR, COMPONENT_ACTIVATOR, LABEL_COMPONENT, LABEL_ENDPOINT, SERVICE_GATEWAY
from zerotide.kube import Client, Clock, Reflector, TokenFile, TokenReviewer, process
from zerotide.kube.resources import API_KEYS, BUDGETS, INFERENCE_ENDPOINTS, PODS

log = logging.getLogger(__name__)

TIDY = 10.0
LOOK = 0.05
LAST_WORDS = 3.0
"""Seconds in which clients whose requests are ended at the end of a drain are told so."""


class Service:
    """One activator process, alone in its pod or a `member` that answers to its parent."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        clock: Clock,
        limits: Limits | None = None,
        member: Member | None = None,
    ) -> None:
        self.settings, self._member = settings, member
        limits = limits or settings.limits
        me = settings.pod_name
        self.clock = clock
        self.started_us = clock.now_us()
        self.tracker = Tracker(clock.now_us)
        self.metrics = Metrics(clock.monotonic, settings.max_endpoints)
        self.metrics.loads = self._loads
        self.registry = Registry(me, clock.now_us, clock.monotonic, limits, settings.hold_caps)
        self.registry.catalogue.gateway = Name(settings.pod_namespace, SERVICE_GATEWAY)
        self.links = self._link(client)
        self.loader = Loader(client, settings.egress, settings.egress_ca_file)
        self.registry.tokens.load = self.loader.load
        self._records = self._record() if settings.usage_dir is not None else None
        self.journal = self._records.journal if self._records is not None else None
        self.quota = self._open_quota(self._records) if self._records is not None and settings.exporter_url else None
        self.waker = Waker(client, self.registry, me, clock.now_us, self.tracker.unheard)
        self.holder = Holder(self.registry, self.waker, self.tracker, clock.monotonic, clock.now_us)
        books = self._books()
        self.forwarder = Forwarder(self.registry, self.holder, books, self.metrics, clock.monotonic, clock.now_us)
        self.envoy = Envoy(client, settings.egress, settings.egress_ca_file, clock.monotonic)
        self.gateway = Gateway(
            self.registry,
            self.forwarder,
            books,
            self.tracker,
            self.metrics,
            clock.monotonic,
            clock.now_us,
            clock.wall_us,
            self.envoy,
            body_bytes=limits.body_bytes,
            lender=self.quota.office if self.quota is not None else None,
        )
        self.server = Server(self.gateway.handle, answer_to_fault, limits, clock.monotonic, self.gateway.express)
        tls = settings.fronts.tls_dir
        self.certificate = Certificate(tls) if tls is not None else None
        self.metrics.add(TokenFigures(self.registry.tokens))
        self.metrics.add(WireFigures(self.server.door, lambda: self.server.buffered, self.certificate))
        self.reflectors = self._reflect(client)
        self.admin = self._admin(client)
        self.port = self.tls_port = self.admin_port = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False

    async def start(self) -> None:
        """Serve; requests are answered once every collection was read."""
        settings = self.settings
        if self._member is None:
            self.admin_port = await self.admin.listen(settings.listen, settings.admin_port)
        else:
            await self.admin.listen_at(self._member.admin)
        if self.links is not None:
            await self._open_council(self.links)
        for reflector in self.reflectors:
            self._run(reflector.run())
        self._run(self.holder.run())
        self._run(self.gateway.run())
        self._run(self._tidy())
        if self.certificate is not None:
            self._run(self.certificate.run())
        for work in self._records.work() if self._records is not None else ():
            self._run(work)
        if self.quota is not None:
            self._run(self.quota.office.run())
        for reflector in self.reflectors:
            await reflector.synced.wait()
        await self._listen(settings.fronts.proxies)
        log.info("serving", extra={"port": self.port, "admin_port": self.admin_port})

    async def _listen(self, proxies: Sequence[Network]) -> None:
        if self.certificate is not None:
            self.tls_port = await self.server.listen(self._listener(True), self.certificate, proxies)
        self.port = await self.server.listen(self._listener(False), proxies=proxies)

    def _listener(self, secure: bool) -> socket:
        if self._member is not None:
            return self._member.listener(secure)
        return open_socket(self.settings.listen, self.settings.fronts.tls_port if secure else self.settings.port)

    async def ended(self) -> None:
        """Return, or raise, as soon as anything ends that never should."""
        await process.first_end(self._tasks)

    async def drain(self) -> None:
        """Be ready no more, serve until others have taken over and everything is answered, within bounds."""
        self._draining = True
        self.server.drain()
        began, settings = self.clock.monotonic(), self.settings
        await self._until_answered(began + settings.drain_listen, began + settings.drain_timeout)
        self.server.stop_listening()
        self.server.shut_idle()
        left = self.gateway.active
        if left:
            self.server.overrule(ShuttingDown("the gateway had to end before the request did: try again"))
            await self._until_answered(0.0, self.clock.monotonic() + LAST_WORDS)
        log.info("drained", extra={"ended": left})

    async def _until_answered(self, soonest: float, latest: float) -> None:
        """Return when no request is worked on, not before one time and no later than another."""
        while (now := self.clock.monotonic()) < latest:
            if now >= soonest and not self.gateway.active:
                return
            await asyncio.sleep(LOOK)

    async def stop(self) -> None:
        """End everything; requests that are still going on are cut, and settled."""
        await self.server.close()
        self.waker.close()
        self.registry.close()
        if self.links is not None:
            await self.links.close()
        await self.admin.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._records is not None:
            await self._records.close()
        if self.quota is not None:
            await self.quota.close()

    async def _open_council(self, links: Links) -> None:
        first = self.settings.council_port
        number = self._member.number if self._member is not None else 0
        port = await links.listen(self.settings.listen, first + number if first else 0)
        self.registry.council_port = first or port
        self._run(links.run())

    def _record(self) -> Records:
        told, folder = self.settings, self.settings.usage_dir
        assert folder is not None, "only asked where usage is recorded"
        records = Records(folder, told.exporter_url, told.exporter_token_file, told.usage_bounds, self.clock.now_us)
        self.metrics.add(UsageFigures(records.journal))
        return records

    def _open_quota(self, records: Records) -> Quota:
        settings, member = self.settings, self._member
        pod, process = settings.pod_name.partition("/")[0], str(member.number if member is not None else 0)
        exporter = QuotaClient(settings.exporter_url, settings.exporter_token_file)
        me = Process(pod, process, birth(records.journal.folder, self.started_us))
        return Quota(records, exporter, me, self.clock.monotonic, self.clock.now_us)

    def _books(self) -> Books:
        return Books(
            self.registry,
            self.tracker,
            self.journal,
            self.metrics,
            self.settings.pod_name,
            self.clock.monotonic,
            self.clock.now_us,
            self.waker.settled,
        )

    def _admin(self, client: Client) -> Admin:
        return Admin(
            self._unhealthy,
            self._unready,
            self.metrics.render_gently,
            self._stream,
            TokenReviewer(client, AUDIENCE_ACTIVATOR).review if self._member is None else None,
            self.settings.operator_user,
        )

    def _link(self, client: Client) -> Links | None:
        file = self.settings.council_token_file
        if file is None:
            return None
        review = TokenReviewer(client, AUDIENCE_ACTIVATOR).review
        return Links(self.registry.council, TokenFile(file), review, self.settings.council_user)

    def _reflect(self, client: Client) -> list[Reflector]:
        registry = self.registry
        peers = f"{LABEL_COMPONENT}={COMPONENT_ACTIVATOR}"
        return [
            Reflector(client, INFERENCE_ENDPOINTS, on_change=registry.endpoint_changed),
            Reflector(client, API_KEYS, on_change=registry.key_changed),
            Reflector(client, BUDGETS, on_change=registry.budget_changed),
            Reflector(
                client,
                PODS,
                label_selector=LABEL_ENDPOINT,
                field_selector=pods.WITH_ADDRESS,
                trim=pods.trim,
                on_change=registry.pod_changed,
            ),
            Reflector(
                client,
                PODS,
                self.settings.pod_namespace,
                label_selector=peers,
                on_change=registry.peer_changed,
            ),
        ]

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _tidy(self) -> None:
        """Close connections that have been idle for long, and forget endpoints and keys that are no more."""
        while True:
            await asyncio.sleep(TIDY)
            known = {endpoint.profile.uid for endpoint in self.registry.endpoints.values()}
            for demand in list(self.tracker.demands()):
                if demand.uid not in known:
                    self.tracker.forget(demand.endpoint, demand.uid)
            self.registry.keep_keys()
            for endpoint in self.registry.endpoints.values():
                for replica in endpoint.replicas.values():
                    replica.trim()

    async def _stream(self) -> Stream:
        return Stream(self.tracker, self.settings.pod_name, self.started_us, self.clock.now_us)

    async def _unhealthy(self) -> str:
        # An API server that is away is no reason to be killed: warm traffic goes on without it.
        return "a task ended" if any(task.done() for task in self._tasks) else ""

    async def _unready(self) -> str:
        if self._draining:
            return "draining"
        waiting = [reflector.resource.plural for reflector in self.reflectors if not reflector.synced.is_set()]
        if waiting:
            return f"not read yet: {', '.join(waiting)}"
        return "" if self.port else "not listening yet"

    def _loads(self) -> Iterator[Load]:
        for name, endpoint in self.registry.endpoints.items():
            demand = self.tracker.demand(endpoint.profile.key)
            in_flight = demand.in_flight if demand is not None else 0
            gate = endpoint.gate
            held, size = gate.held - gate.guests, gate.held_bytes - gate.guest_bytes
            yield Load(name.namespace, name.name, held, size, in_flight)
