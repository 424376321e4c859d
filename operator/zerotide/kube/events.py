"""Write Kubernetes Events about an object, without noise: repeats are counted, floods are cut.

What must be told once is told by name: the Event's name follows from what it says, so that a process that comes
later tells it again in vain, and one that ended before it could tell has told nothing that is lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from zerotide.kube.client import Client, Object
from zerotide.kube.errors import AlreadyExists, Forbidden, KubeError, NotFound
from zerotide.kube.resources import EVENTS

log = logging.getLogger(__name__)

RETRY = 2.0
"""Seconds until a notice that must be told is tried again."""
TRIES = 30
REMEMBERED = 10_000


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


@dataclass(frozen=True)
class _Order:
    obj: Object
    notice: Notice
    once: str = ""
    tries: int = 0


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
        self._queue: asyncio.Queue[_Order] = asyncio.Queue(maxsize=1000)
        self._sent: dict[str, _Sent] = {}
        self._told: dict[str, None] = {}

    def record(self, obj: Object, notice: Notice) -> None:
        """Queue a notice about an object (a dict with apiVersion, kind and metadata); drop it when flooded."""
        self._put(_Order(obj, notice))

    def tell_once(self, obj: Object, notice: Notice, once: str) -> None:
        """Have a notice told, now or later, unless it was told before for the same `once` by any process."""
        name = _name(obj, notice, once)
        if name in self._told:
            return
        self._told[name] = None
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        self._put(_Order(obj, notice, name))

    async def run(self) -> None:
        """Write queued notices until cancelled; a failed write is repeated only of what must be told."""
        while True:
            order = await self._queue.get()
            try:
                if order.once:
                    await self._write_once(order)
                else:
                    await self._write(order.obj, order.notice)
            except KubeError as error:
                log.warning("event not written", extra={"reason": order.notice.reason, "error": str(error)})
                # Without rights, or without the namespace, trying again is in vain.
                if order.once and not isinstance(error, (Forbidden, NotFound)):
                    self._later(order)

    def _put(self, order: _Order) -> None:
        try:
            self._queue.put_nowait(order)
        except asyncio.QueueFull:
            log.warning("event dropped", extra={"reason": order.notice.reason})
            self._told.pop(order.once, None)

    def _later(self, order: _Order) -> None:
        if order.tries < TRIES:
            asyncio.get_running_loop().call_later(RETRY, self._put, replace(order, tries=order.tries + 1))
        else:
            self._told.pop(order.once, None)

    async def _write_once(self, order: _Order) -> None:
        if not self._allow(self._clock()):
            self._later(order)
            return
        namespace = order.obj["metadata"].get("namespace") or "default"
        with suppress(AlreadyExists):
            await self._client.create(EVENTS, self._event(order.obj, order.notice, order.once, namespace, _stamp()))

    async def _write(self, obj: Object, notice: Notice) -> None:
        metadata = obj["metadata"]
        identity = f"{metadata.get('uid')}/{notice.type}/{notice.reason}/{notice.message}"
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        now = self._clock()
        self._forget(now)
        namespace = metadata.get("namespace") or "default"
        stamp = _stamp()
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


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name(obj: Object, notice: Notice, once: str) -> str:
    metadata = obj["metadata"]
    identity = f"{metadata.get('uid')}/{notice.type}/{notice.reason}/{once}"
    return f"{metadata['name']}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
