"""Keep a local copy of a collection true: list, watch, and never miss a deletion.

A watch can break silently, end early, or jump over a gap (410). Each of these leads to a list, and a list is
compared with the store: what is missing from it was deleted. Bookmarks keep the version fresh. Not every kind has
them, so each stream is short (`stream` seconds, ended by the server): one that is silent for `stall` seconds is broken.
Every `relist` seconds the store is compared all the same.

A process for which nobody waits may take changes in later and many at once (`linger`): while a pod starts, each wake-up
of a process is taken from the pod. Nothing is skipped, and the order stays. Where changes are many and nobody waits
for the second of them, the connection is read only every `rest` seconds: each read costs more than what it brings.
What a process wrote itself it need not read again (`known`): the answer to the write was the object of that version.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import aiohttp

from zerotide.kube.client import Client, Object
from zerotide.kube.encoding import decode, encode, glance
from zerotide.kube.errors import ApiError, ConnectionFailed, Gone, KubeError, error_from
from zerotide.kube.resources import Resource

log = logging.getLogger(__name__)

Key = tuple[str, str]
ANSWER = 30.0
"""Seconds that the head of a watch may take; what follows it may be silent for longer."""
Known = Callable[[Key, str], Object | None]
"""Return an object of a version, trimmed, where it is known already."""
_NEWS = ("ADDED", "MODIFIED")
_EARLY = 0.02
"""By which share of the time that it may last a silence may be found out too early."""


@dataclass(frozen=True)
class Change:
    """One object that appeared or changed ("set"), or went away ("deleted", with its last known content)."""

    type: Literal["set", "deleted"]
    object: Object
    previous: Object | None = None


@dataclass(frozen=True)
class Linger:
    """How many seconds changes may wait to be taken in.

    Those that hold the text `unless` do not wait, and none does once `over` is set.
    """

    seconds: float
    unless: bytes = b""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, changes: bytes) -> None:
        """Wait as long as these changes may."""
        if self.over.is_set() or (self.unless and self.unless in changes):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self.over.wait()


def key_of(obj: Object) -> Key:
    """Return (namespace, name) of an object."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def without_managed_fields(obj: Object) -> Object:
    """Drop metadata.managedFields, two thirds of a typical object's size, which nobody here reads."""
    obj["metadata"].pop("managedFields", None)
    return obj


class Reflector:
    """Mirror one collection into `store` and report each change in order, exactly once per version."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        trim: Callable[[Object], Object] = without_managed_fields,
        on_change: Callable[[Change], None] | None = None,
        on_list: Callable[[int], None] | None = None,
        linger: Linger | None = None,
        store: MutableMapping[Key, Object] | None = None,
        rest: float = 0.0,
        known: Known | None = None,
        stream: float = 60.0,
        stall: float = 75.0,
        relist: float = 300.0,
        rng: random.Random | None = None,
    ) -> None:
        """`on_list` is called with the version of a list, once the store is what it says."""
        self.resource = resource
        self.store: MutableMapping[Key, Object] = {} if store is None else store
        self.synced = asyncio.Event()
        self._client, self._namespace = client, namespace
        self._label_selector, self._field_selector = label_selector, field_selector
        self._trim, self._on_change, self._linger, self._rest = trim, on_change, linger, rest
        self._on_list = on_list
        self._known = known
        self._calm = asyncio.Event()
        self._calm.set()
        self._stream, self._stall, self._relist = stream, stall, relist
        self._rng = rng or random.Random()
        self._alive = time.monotonic()
        self._listed = float("-inf")
        self._version = ""

    def age(self) -> float:
        """Return the seconds since the API server last gave a sign of life on this collection."""
        return time.monotonic() - self._alive

    async def caught_up(self) -> None:
        """Wait until nothing that came waits to be taken in."""
        await self._calm.wait()

    async def run(self) -> None:
        """Mirror for ever; survive every failure with back-off between 0.1 and 10 s."""
        failures = 0
        while True:
            try:
                if not self._version or time.monotonic() - self._listed >= self._relist:
                    await self._list()
                await self._watch()
                failures = 0
            except Gone:
                self._version = ""
            except KubeError as error:
                failures += 1
                if not isinstance(error, ConnectionFailed):
                    self._version = ""
                log.warning(
                    "watch interrupted",
                    extra={"resource": self.resource.plural, "error": str(error), "failures": failures},
                )
                await asyncio.sleep(min(10.0, 0.1 * 2 ** min(failures, 7)) * self._rng.uniform(0.5, 1.0))

    async def _list(self) -> None:
        present: set[Key] = set()
        version = ""
        async for page in self._client.pages(
            self.resource, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector
        ):
            self._alive = time.monotonic()
            version = page.resource_version
            for item in page.items:
                present.add(key_of(item))
                self._set(item)
        self._listed = time.monotonic()
        for key in [key for key in self.store if key not in present]:
            self._delete(self.store[key])
        self._version = version
        if self._on_list is not None:
            self._on_list(int(version))
        self.synced.set()

    async def _watch(self) -> None:
        server_timeout = max(1, int(min(self._relist, self._stream) * self._rng.uniform(0.8, 1.0)))
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "labelSelector": self._label_selector,
            "fieldSelector": self._field_selector,
            "timeoutSeconds": str(server_timeout),
        }
        answer = min(ANSWER, self._stall)
        try:
            async with (
                asyncio.timeout(answer) as silence,
                self._client.stream("GET", self.resource.path(self._namespace), params=params) as response,
            ):
                answer = self._stall
                silence.reschedule(asyncio.get_running_loop().time() + answer)
                await self._read(response, silence)
        except TimeoutError:
            raise ConnectionFailed(f"no sign of life for {answer:.0f} s") from None

    async def _read(self, response: aiohttp.ClientResponse, silence: asyncio.Timeout) -> None:
        """Take in what comes until the end of the stream; `silence` is how long nothing may."""
        self._alive = put_off = time.monotonic()
        rest = b""
        while chunk := await _chunk(response):
            self._alive = time.monotonic()
            # A timer for each read would cost as much as the read.
            if self._alive - put_off > _EARLY * self._stall:
                put_off = self._alive
                silence.reschedule(asyncio.get_running_loop().time() + self._stall)
            if self._linger is not None:
                chunk += await self._gathered(response, chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line and not self._echo(line):
                    self._take(decode(line))
            if self._rest:
                await _unread(response, self._rest)

    async def _gathered(self, response: aiohttp.ClientResponse, chunk: bytes) -> bytes:
        """Let changes wait, and return what came meanwhile."""
        assert self._linger is not None
        self._calm.clear()
        try:
            await self._linger.wait(chunk)
            return _arrived(response)
        finally:
            # Who is woken by this runs after what follows here at once: the changes are taken in.
            self._calm.set()

    def _echo(self, line: bytes) -> bool:
        """Take in the echo of what is known; False where the event must be read."""
        if self._known is None:
            return False
        seen = glance(line)
        meta = seen.object.metadata
        if seen.type not in _NEWS or (obj := self._known((meta.namespace, meta.name), meta.resource_version)) is None:
            return False
        self._set(obj, trimmed=True)
        self._version = meta.resource_version
        return True

    def _take(self, event: Object) -> None:
        obj = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._set(obj)
            case "DELETED":
                self._delete(obj)
            case "ERROR":
                raise _watch_error(obj)
        self._version = obj["metadata"]["resourceVersion"]

    def _set(self, obj: Object, *, trimmed: bool = False) -> None:
        key = key_of(obj)
        previous = self.store.get(key)
        version = obj["metadata"]["resourceVersion"]
        if previous is not None:
            if previous["metadata"]["resourceVersion"] == version:
                return
            if previous["metadata"]["uid"] != obj["metadata"]["uid"]:
                # Deleted and made again in a gap of the watch: the first one's end must not be lost.
                self._delete(previous)
                previous = None
        obj = obj if trimmed else self._trim(obj)
        self.store[key] = obj
        self._report(Change("set", obj, previous))

    def _delete(self, obj: Object) -> None:
        previous = self.store.pop(key_of(obj), None)
        self._report(Change("deleted", self._trim(obj), previous))

    def _report(self, change: Change) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(change)
        except Exception:
            # One bad object must not stop the mirror of all others.
            log.exception(
                "change handler failed", extra={"resource": self.resource.plural, "key": key_of(change.object)}
            )


def _watch_error(status: Object) -> ApiError:
    return error_from(int(status.get("code") or 500), encode(status))


async def _chunk(response: aiohttp.ClientResponse) -> bytes:
    """Return what came, nothing at the end. Raises ConnectionFailed."""
    try:
        return await response.content.readany()
    except aiohttp.ClientError as error:
        raise _broken(error) from error


async def _unread(response: aiohttp.ClientResponse, seconds: float) -> None:
    """Leave to the kernel what comes within some seconds."""
    connection = response.connection
    if connection is None or connection.protocol is None:
        return  # the stream is at its end, and all of it is here
    protocol = connection.protocol
    protocol.pause_reading()
    try:
        await asyncio.sleep(seconds)
    finally:
        protocol.resume_reading()


def _arrived(response: aiohttp.ClientResponse) -> bytes:
    """Return what came meanwhile. Raises ConnectionFailed."""
    try:
        return response.content.read_nowait()
    except aiohttp.ClientError as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ConnectionFailed:
    return ConnectionFailed(f"the stream broke off: {error!r}")
