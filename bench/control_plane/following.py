"""A watch that remembers when something was first seen of each endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from bench.wire.programs import say
from zerotide.api.names import LABEL_ENDPOINT
from zerotide.kube import Change, Client, Reflector
from zerotide.kube.resources import INFERENCE_ENDPOINTS, PODS

Json = dict[str, Any]
Key = tuple[str, str]
TELL = 60.0
"""Seconds after which is told how far it has come."""


class Following:
    """Objects that are followed; `marks` holds, by what holds of them, when it was first seen of each endpoint.

    Times are seconds of the monotonic clock.
    """

    def __init__(
        self, reflector: Callable[[Callable[[Change], None]], Reflector], look: Callable[[Json], Iterable[str]]
    ):
        """`look` returns what holds of an object."""
        self.marks: dict[str, dict[Key, float]] = {}
        self._reflector, self._look = reflector(self._changed), look
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Follow."""
        self._task = asyncio.create_task(self._reflector.run())
        await self._reflector.synced.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Follow no longer."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, mark: str, count: int, timeout: float) -> float:
        """Return when something was first seen of the last of so many, and tell how it goes. Raises TimeoutError."""
        began = told = time.monotonic()
        while (seen := len(self.marks.get(mark, ()))) < count:
            if (now := time.monotonic()) - began > timeout:
                raise TimeoutError(f"{mark}: {seen} of {count} endpoints after {timeout:.0f} s")
            if now - told > TELL:
                told = now
                say(f"  {mark}: {seen} of {count} after {now - began:.0f} s")
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._news.wait()
        return max(self.marks[mark].values())

    def _changed(self, change: Change) -> None:
        if change.type != "set":
            return
        metadata, now = change.object["metadata"], time.monotonic()
        key = metadata["namespace"], metadata.get("labels", {}).get(LABEL_ENDPOINT, metadata["name"])
        for mark in self._look(change.object):
            self.marks.setdefault(mark, {}).setdefault(key, now)
        self._news.set()


def endpoints(client: Client) -> Following:
    """Follow endpoints: `asleep` says that one is Ready and at zero."""

    def look(obj: Json) -> list[str]:
        return ["asleep"] if obj["status"].get("state") == "Asleep" and is_ready(obj) else []

    return Following(lambda changed: Reflector(client, INFERENCE_ENDPOINTS, trim=_trimmed, on_change=changed), look)


def pods(client: Client) -> Following:
    """Follow replicas: `made` says that one exists, `ready` that it is Ready."""

    def look(obj: Json) -> list[str]:
        return ["made", "ready"] if is_ready(obj) else ["made"]

    def reflector(changed: Callable[[Change], None]) -> Reflector:
        return Reflector(client, PODS, label_selector=LABEL_ENDPOINT, trim=_trimmed, on_change=changed)

    return Following(reflector, look)


def is_ready(obj: Json) -> bool:
    """Tell whether an object's condition Ready holds."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _trimmed(obj: Json) -> Json:
    kept = {key: obj["metadata"][key] for key in ("namespace", "name", "uid", "resourceVersion")}
    labels = obj["metadata"].get("labels") or {}
    return {"metadata": {**kept, "labels": labels}, "status": obj.get("status") or {}}
