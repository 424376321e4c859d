"""The running exporter: its parts, wired together."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client.registry import CollectorRegistry

from zerotide.api.names import LABEL_ACCELERATOR_CLASS, LABEL_ENDPOINT, MANAGER_EXPORTER
from zerotide.api.scalars import SECOND
from zerotide.exporter.access import Access
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.archive.task import ArchiveTask
from zerotide.exporter.board import Board
from zerotide.exporter.budgets import BudgetTask
from zerotide.exporter.endpoints import EndpointWatch, class_name, wake_of
from zerotide.exporter.http import Interface
from zerotide.exporter.intake import read_again
from zerotide.exporter.metrics import LedgerCollector, registry
from zerotide.exporter.nodes import NodeWatch
from zerotide.exporter.otlp import Pusher
from zerotide.exporter.pods import PodMeter
from zerotide.exporter.pricefile import load_prices
from zerotide.exporter.pricewatch import PriceWatch
from zerotide.exporter.quotas import QuotaDesk
from zerotide.exporter.sealtask import SealTask
from zerotide.exporter.settings import Settings
from zerotide.exporter.settle import Increments, due, settle
from zerotide.exporter.store import Store
from zerotide.exporter.stores import open_store
from zerotide.exporter.threads import Threaded
from zerotide.exporter.webhooks.couriers import Couriers
from zerotide.exporter.webhooks.sender import Sender
from zerotide.kube import Client, Elector, Object, Recorder, process
from zerotide.kube.clock import Clock

log = logging.getLogger(__name__)

LEASE = "zerotide-exporter"
"""The Lease of whoever seals, where several exporters have one ledger."""
STALE_S = 180.0
"""A watch that gave no sign of life for so long is dead: three times as long as a healthy one is ever silent."""
CONTEXT_WAIT_S = 10.0
"""How long pods wait for the first list of nodes and endpoints, which say what devices cost."""

ARCHIVE_S = 3600.0
"""How often it is looked whether there is something to archive."""

GAUGES = {
    "zerotide_ledger_lag_seconds": "Age of the oldest fact that is not recorded yet, 0 when all are.",
    "zerotide_pods_awaiting_release": "Finished pods that still carry the meter's finalizer.",
    "zerotide_ledger_failing": "Whether the ledger did not take the last write.",
    "zerotide_settled_timestamp_seconds": "When time was counted last, 0 before the first time.",
    "zerotide_sealed_timestamp_seconds": "Up to when charges are sealed, 0 where none are.",
    "zerotide_usage_refused_records": "Usage records that could not be read or held, and are kept to be looked at.",
}


class Service:
    """One exporter. Use `start`, wait for whatever ends it, then `stop`."""

    def __init__(self, settings: Settings, client: Client, clock: Clock) -> None:
        self._settings, self._client, self._clock = settings, client, clock
        self._prices = PriceWatch(client, settings.price_book, load_prices(settings.prices))
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._archiver: Threaded[Store] | None = None
        self.port = 0
        self._settled_us = self._refused = 0

    async def start(self) -> None:
        """Open the ledger, listen, and begin to follow the cluster. Raises StoreError and OSError."""
        self._writer = await self._open("ledger-writer")
        self._reader = await self._open("ledger-reader")
        self._board = Board(self._prices.current, self._clock.now_us, lambda: self._endpoints.reflector.store, wake_of)
        self._endpoints = EndpointWatch(self._client, self._writer, self._clock, self._board.mark)
        self._sealer = await self._open("ledger-sealer")
        self._keeper = await self._open("ledger-budgets")
        self._archive = Archive(self._settings.archive) if self._settings.archive else None
        self._recorder = Recorder(self._client, MANAGER_EXPORTER, MANAGER_EXPORTER)
        self._couriers = self._make_couriers()
        self._budgets = BudgetTask(
            self._client, self._keeper, self._prices.current, self._recorder, self._clock, self._couriers
        )
        self._quotas = QuotaDesk(
            self._client,
            self._writer,
            self._budgets.known,
            self._prices.current,
            self._budgets.timed,
            self._settings.namespace,
            self._clock,
        )
        self._nodes = NodeWatch(self._client, self._settings.cluster)
        self._meter = PodMeter(self._client, self._writer, self._clock, self._context, self._settings.cluster)
        self._seals = SealTask(
            self._sealer,
            self._prices,
            self._clock,
            grace_us=self._settings.seal_grace_us,
            interval_s=self._settings.settle_interval_us / SECOND,
            elect=self._elector if self._settings.database else None,
        )
        self._collector = self._collect()
        await self._look_at_refused()
        self._collector.publish(await self._writer.run(lambda store: store.series()))
        shown = registry(self._collector)
        await self._listen(shown)
        if self._archive:
            self._archiver = await self._open("ledger-archiver")
        for name, run in self._work(shown):
            self._tasks.append(asyncio.create_task(run, name=name))

    async def ended(self) -> None:
        """Return, or raise its failure, when any part of the exporter ends; none should."""
        await process.first_end(self._tasks)

    async def stop(self) -> None:
        """Stop following, answer what was asked, record what was seen, close the ledger."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        await self._endpoints.flush()
        await self._meter.flush()
        await self._keeper.close()
        await self._sealer.close()
        await self._reader.close()
        await self._writer.close()
        if self._archiver:
            # Last, since a day that has been begun is finished first.
            await self._archiver.close()

    def _work(self, shown: CollectorRegistry) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield what has to run for ever, by its name."""
        yield "endpoints", self._endpoints.reflector.run()
        yield "nodes", self._nodes.reflector.run()
        yield "prices", self._prices.reflector.run()
        yield "endpoint records", self._endpoints.run()
        yield "pods", self._follow_pods()
        yield "settle", self._settle()
        yield "seal", self._seals.run()
        yield "budgets", self._budgets.reflector.run()
        yield "budget looks", self._keep_budgets()
        yield "webhooks", self._couriers.run()
        yield "quota slices", self._quotas.run()
        yield "events", self._recorder.run()
        if self._archive and self._archiver:
            yield "archive", ArchiveTask(self._archive, self._archiver, self._clock, interval_s=ARCHIVE_S).run()
        if self._settings.otlp_endpoint:
            yield "push", self._pusher(shown).run()

    def _collect(self) -> LedgerCollector:
        gauges: dict[str, Callable[[], float]] = {
            "zerotide_ledger_lag_seconds": lambda: self._meter.lag_us / SECOND,
            "zerotide_pods_awaiting_release": lambda: self._meter.awaiting_release,
            "zerotide_ledger_failing": lambda: float(self._writer.failing),
            "zerotide_settled_timestamp_seconds": lambda: self._settled_us / SECOND,
            "zerotide_sealed_timestamp_seconds": lambda: self._seals.until_us / SECOND,
            "zerotide_usage_refused_records": lambda: self._refused,
        }
        return LedgerCollector(
            {name: (GAUGES[name], read) for name, read in gauges.items()},
            lambda: self._budgets.ratios,
            lambda: self._couriers.sent,
            lambda: self._couriers.undelivered(),
        )

    async def _look_at_refused(self) -> None:
        """Record what an earlier version could not read of usage, and count what this one cannot."""
        now_us = self._clock.now_us()
        if taken := await self._writer.run(lambda store: read_again(store, now_us)):
            log.info("usage that was refused before is recorded", extra={"records": taken})
        self._refused = await self._writer.run(lambda store: store.refused())

    async def _open(self, name: str) -> Threaded[Store]:
        return await Threaded.open(lambda: open_store(self._settings), name)

    def _make_couriers(self) -> Couriers:
        settings = self._settings
        sender = Sender(self._client, settings.egress, settings.egress_ca_file, self._clock)
        return Couriers(self._client, sender, self._recorder, self._clock, lambda: self._seals.leads())

    def _elector(self, on_lost: Callable[[], None]) -> Elector:
        where = (self._settings.namespace, LEASE, self._settings.identity)
        return Elector(self._client, *where, on_lost=on_lost, duration=15, retry=3)

    async def _listen(self, shown: CollectorRegistry) -> None:
        interface = Interface(
            writer=self._writer,
            reader=self._reader,
            prices=self._prices.current,
            board=self._board,
            access=Access(self._client, self._settings.activator_user, self._settings.operator_user),
            clock=self._clock,
            registry=shown,
            alive=self._dead,
            ready=self._unready,
            archive=self._archive,
            quotas=self._quotas,
        )
        runner = web.AppRunner(interface.application(), access_log=None, shutdown_timeout=10)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self._settings.listen, self._settings.port).start()
        self.port = runner.addresses[0][1]
        log.info(
            "listening",
            extra={
                "port": self.port,
                "ledger": "PostgreSQL" if self._settings.database else str(self._settings.ledger),
            },
        )

    def _pusher(self, shown: CollectorRegistry) -> Pusher:
        settings = self._settings
        where = {"k8s.cluster.name": settings.cluster, "service.instance.id": os.uname().nodename}
        interval_s = settings.otlp_interval_us / SECOND
        return Pusher(settings.otlp_endpoint, settings.otlp_headers, interval_s, shown, self._clock.now_us, where)

    async def _follow_pods(self) -> None:
        try:
            async with asyncio.timeout(CONTEXT_WAIT_S):
                await self._endpoints.reflector.synced.wait()
                await self._nodes.reflector.synced.wait()
        except TimeoutError:
            log.warning("nodes or endpoints cannot be listed: devices may be billed under the default class")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._meter.run())
            tasks.create_task(self._nodes.run(self._meter))

    async def _settle(self) -> None:
        await self._meter.reflector.synced.wait()
        try:
            # What is counted stays counted, so it must not be counted by the price file where there is a book.
            async with asyncio.timeout(CONTEXT_WAIT_S):
                await self._prices.reflector.synced.wait()
        except TimeoutError:
            log.warning("price books cannot be listed: the price file holds")
        while True:
            # Counting reads much and takes long; the writer only adds the result, so usage never waits for it.
            increments = await self._reader.insist(self._due)
            self._collector.publish(await self._writer.insist(partial(settle, increments=increments)))
            self._refused = await self._reader.insist(lambda store: store.refused())
            if self._endpoints.reflector.synced.is_set():
                await self._board.refresh(self._reader)
            self._settled_us = self._clock.now_us()
            await asyncio.sleep(self._settings.settle_interval_us / SECOND)

    async def _keep_budgets(self) -> None:
        # By the price file, a budget would be reckoned at other prices than the bill is made with.
        await self._prices.reflector.synced.wait()
        await self._budgets.run()

    def _due(self, store: Store) -> Increments:
        return due(store, self._prices.current(), self._clock.now_us() - self._settings.settle_lag_us)

    def _context(self, pod: Object) -> tuple[str, Object | None]:
        metadata = pod["metadata"]
        name = (metadata.get("labels") or {}).get(LABEL_ENDPOINT, "")
        endpoint = self._endpoints.reflector.store.get((metadata.get("namespace", ""), name))
        node = self._nodes.reflector.store.get(("", (pod.get("spec") or {}).get("nodeName", "")))
        # A pod says on which of the endpoint's choices it runs; older ones say nothing.
        return (metadata.get("labels") or {}).get(LABEL_ACCELERATOR_CLASS) or class_name(endpoint), node

    def _dead(self) -> str:
        for reflector in (self._meter.reflector, self._endpoints.reflector, self._nodes.reflector):
            if reflector.age() > STALE_S:
                return f"no sign of life from the API server on {reflector.resource.plural} for {reflector.age():.0f} s"
        return ""

    def _unready(self) -> str:
        if not self._meter.reflector.synced.is_set():
            return "pods are not listed yet"
        return "the ledger takes no writes" if self._writer.failing else self._dead()
