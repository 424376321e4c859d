"""What a watch shows of a start: a Deployment scaled, its pod created, placed on a node, with an address."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from zerotide.kube import Change, Client, Reflector
from zerotide.kube.resources import DEPLOYMENTS, PODS


class Marks:
    """When a Deployment and its pod were seen to come so far, in seconds since a start."""

    def __init__(self, client: Client, namespace: str, deployment: str, selector: str) -> None:
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.seen: dict[str, float] = {}
        self._started = float("inf")
        field = f"metadata.name={deployment}"
        self._mirrors = [
            Reflector(client, DEPLOYMENTS, namespace, field_selector=field, on_change=self._deployment),
            Reflector(client, PODS, namespace, label_selector=selector, on_change=self._pod),
        ]

    async def __aenter__(self) -> Self:
        """Follow both, and let the time begin."""
        self._running = [asyncio.create_task(mirror.run()) for mirror in self._mirrors]
        for mirror in self._mirrors:
            await mirror.synced.wait()
        self._started = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Follow no longer."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def elapsed(self) -> float:
        """Return the seconds since the time began."""
        return time.monotonic() - self._started

    def _deployment(self, change: Change) -> None:
        if change.object["spec"].get("replicas"):
            self._mark("scaled")

    def _pod(self, change: Change) -> None:
        address = change.object.get("status", {}).get("podIP")
        self._mark("created")
        if change.object.get("spec", {}).get("nodeName"):
            self._mark("placed")
        if change.type == "deleted":
            self.gone.set()
        elif address:
            self._mark("address")
            if not self.address.done():
                self.address.set_result(address)

    def _mark(self, name: str) -> None:
        self.seen.setdefault(name, self.elapsed())
