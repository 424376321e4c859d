"""Write Kubernetes Events about an object, without noise: repeats are counted, floods are cut."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from zerotide.kube.client import Client, Object
from zerotide.kube.errors import KubeError, NotFound
from zerotide.kube.resources import EVENTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What to tell about an object: type is Normal or Warning, reason one CamelCase word."""

    type: str
    reason: str
    message: str


@dataclass
class _Sent:
    name: str
    count: int
    at: float


class Recorder:
    """Queue notices and write them in the background; at most `rate` per second with a burst of 25."""

    def __init__(
        self,
        client: Client,
        component: str,
        instance: str,
        *,
        rate: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._component, self._instance = client, component, instance
        self._rate, self._clock = rate, clock
        self._tokens, self._filled = 25.0, clock()
        self._queue: asyncio.Queue[tuple[Object, Notice]] = asyncio.Queue(maxsize=1000)
        self._sent: dict[str, _Sent] = {}

    def record(self, obj: Object, notice: Notice) -> None:
        """Queue a notice about an object (a dict with apiVersion, kind and metadata); drop it when flooded."""
        try:
            self._queue.put_nowait((obj, notice))
        except asyncio.QueueFull:
            log.warning("event dropped", extra={"reason": notice.reason})

    async def run(self) -> None:
        """Write queued notices until cancelled; a failed write is logged and not repeated."""
        while True:
            obj, notice = await self._queue.get()
            try:
                await self._write(obj, notice)
            except KubeError as error:
                log.warning("event not written", extra={"reason": notice.reason, "error": str(error)})

    async def _write(self, obj: Object, notice: Notice) -> None:
        metadata = obj["metadata"]
        identity = f"{metadata.get('uid')}/{notice.type}/{notice.reason}/{notice.message}"
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        now = self._clock()
        self._forget(now)
        namespace = metadata.get("namespace") or "default"
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        sent = self._sent.get(key)
        if sent is not None:
            sent.count, sent.at = sent.count + 1, now
            try:
                body = {"count": sent.count, "lastTimestamp": stamp}
                await self._client.patch(EVENTS, sent.name, namespace, body)
                return
            except NotFound:
                self._sent.pop(key)
        if not self._allow(now):
            log.warning("event over the rate", extra={"reason": notice.reason})
            return
        name = f"{metadata['name']}.{time.time_ns():x}"
        await self._client.create(EVENTS, self._event(obj, notice, name, namespace, stamp))
        self._sent[key] = _Sent(name, 1, now)

    def _event(self, obj: Object, notice: Notice, name: str, namespace: str, stamp: str) -> Object:
        metadata = obj["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": obj.get("apiVersion", ""),
                "kind": obj.get("kind", ""),
                "namespace": metadata.get("namespace", ""),
                "name": metadata["name"],
                "uid": metadata.get("uid", ""),
            },
            "type": notice.type,
            "reason": notice.reason,
            "message": notice.message[:1024],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }

    def _forget(self, now: float) -> None:
        for key in [key for key, sent in self._sent.items() if now - sent.at > 120]:
            del self._sent[key]

    def _allow(self, now: float) -> bool:
        self._tokens = min(25.0, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
