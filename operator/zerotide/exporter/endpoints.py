"""Follow the endpoints: who owns them, how many replicas they keep, and each wake as the operator reports it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from zerotide.api.failures import ApiError
from zerotide.api.scalars import parse_duration
from zerotide.api.spec_scaling import Scaling
from zerotide.api.status import LastWake
from zerotide.billing.ledger import Wake
from zerotide.billing.stamps import stamp
from zerotide.billing.usage import OPEN_LIMIT_US
from zerotide.exporter.store import EndpointRecord, Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Change, Client, Key, Linger, Object, Reflector, key_of
from zerotide.kube.clock import Clock
from zerotide.kube.resources import INFERENCE_ENDPOINTS

log = logging.getLogger(__name__)

LEISURE = 0.5
"""Seconds that changes wait, as those of pods do."""


def trim(endpoint: Object) -> Object:
    """Replace managedFields by the one thing that is read from them: when a person last wrote the spec."""
    written = [
        entry.get("time", "")
        for entry in endpoint["metadata"].pop("managedFields", None) or ()
        if entry.get("subresource", "") in ("", "scale")
    ]
    return {**endpoint, "writtenAt": max(written, default="")}


def class_name(endpoint: Object | None) -> str:
    """Return the accelerator class that an endpoint names."""
    return ((((endpoint or {}).get("spec") or {}).get("accelerator")) or {}).get("className") or ""


def record_of(endpoint: Object, seen_us: int) -> EndpointRecord:
    """Return an endpoint as the ledger keeps it.

    A floor holds since the spec was written; where the API server does not say when, since it was seen.
    """
    metadata, spec = endpoint["metadata"], endpoint.get("spec") or {}
    created = stamp(metadata.get("creationTimestamp")) or seen_us
    generation = int(metadata.get("generation") or 1)
    written = stamp(endpoint.get("writtenAt")) or seen_us
    billing = spec.get("billing") or {}
    consumer = billing.get("consumer") or metadata["name"]
    return EndpointRecord(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        created_us=created,
        owner=f"{metadata['namespace']}/{consumer}",
        request_timeout_us=_duration((spec.get("request") or {}).get("timeout"), OPEN_LIMIT_US),
        generation=generation,
        floor=_floor(spec),
        floor_from_us=created if generation == 1 else written,
        cold_start=billing.get("coldStart") or "Owner",
        split=billing.get("split") or "Equal",
        clock=_clock(spec, f"{metadata['namespace']}/{metadata['name']}"),
    )


def wake_of(endpoint: Object) -> Wake | None:
    """Return the wake that an endpoint's status reports, None while there is none that can be read."""
    reported = (endpoint.get("status") or {}).get("lastWake")
    if not reported:
        return None
    metadata = endpoint["metadata"]
    try:
        wake = LastWake.model_validate(reported, extra="ignore")
        stages = tuple((stage.name, parse_duration(stage.duration)) for stage in wake.stages)
        time_us = stamp(wake.time)
    except (ValidationError, ApiError) as error:
        log.warning(
            "wake not understood",
            extra={"endpoint": f"{metadata['namespace']}/{metadata['name']}", "error": str(error)},
        )
        return None
    if time_us is None:
        return None
    return Wake(
        endpoint_uid=metadata["uid"],
        wake_id=wake.id,
        namespace=metadata["namespace"],
        endpoint=metadata["name"],
        time_us=time_us,
        cause=wake.cause,
        total_us=wake.total_us,
        stages=stages,
    )


def failed_starts(endpoint: Object) -> tuple[str, ...]:
    """Return what tells the failed starts of an endpoint from those it had before, nothing where none failed.

    Their number does not: of two that are an hour apart, the window may have forgotten the first.
    """
    told: dict[str, Any] = (endpoint.get("status") or {}).get("failedStarts") or {}
    return (str(told.get("count")), str(told.get("since")), *(told.get("times") or ())) if told else ()


class EndpointWatch:
    """Record endpoints and their wakes; `on_cost` is called where what an endpoint cost should be looked at anew."""

    def __init__(
        self, client: Client, store: Threaded[Store], clock: Clock, on_cost: Callable[[Key], None] = lambda key: None
    ) -> None:
        self.reflector = Reflector(
            client, INFERENCE_ENDPOINTS, trim=trim, on_change=self._changed, linger=Linger(LEISURE)
        )
        self._store, self._clock, self._on_cost = store, clock, on_cost
        self._known: dict[str, EndpointRecord] = {}
        self._wakes: dict[str, Wake] = {}
        self._failed: dict[str, tuple[str, ...]] = {}
        self._work: asyncio.Queue[EndpointRecord | Wake] = asyncio.Queue()

    async def run(self) -> None:
        """Record for ever; the reflector runs apart, since pods need the class names."""
        while True:
            await self._record(await self._work.get())

    async def flush(self) -> None:
        """Record everything that is waiting. Raises StoreError."""
        while not self._work.empty():
            await self._record(self._work.get_nowait())

    async def _record(self, item: EndpointRecord | Wake) -> None:
        if isinstance(item, Wake):
            await self._store.insist(lambda store: store.add_wake(item))
            self._on_cost((item.namespace, item.endpoint))
        else:
            await self._store.insist(lambda store: store.add_endpoint(item))

    def _changed(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        record, wake = record_of(change.object, self._clock.now_us()), wake_of(change.object)
        known = self._known.get(uid)
        # Only what is written down: the time of sight alone is no change.
        if known is None or known._replace(floor_from_us=0) != record._replace(floor_from_us=0):
            self._known[uid] = record
            self._work.put_nowait(record)
        if wake is not None and self._wakes.get(uid) != wake:
            self._wakes[uid] = wake
            self._work.put_nowait(wake)
        failed = failed_starts(change.object)
        if self._failed.get(uid, ()) != failed:
            self._failed[uid] = failed
            self._on_cost(key_of(change.object))
        if change.type == "deleted":
            for table in (self._known, self._wakes, self._failed):
                table.pop(uid, None)


def _floor(spec: dict[str, Any]) -> int:
    scaling = spec.get("scaling") or {}
    if spec.get("suspend"):
        return 0
    return int(scaling.get("pinnedReplicas") or scaling.get("minReplicas") or 0)


def _clock(spec: dict[str, Any], name: str) -> str:
    """Return what of a spec makes its floor depend on the time, empty where nothing does."""
    scaling = spec.get("scaling") or {}
    told = {key: scaling[key] for key in ("minReplicas", "schedules", "override") if scaling.get(key)}
    # A pinned number and suspension stand above the clock, as in the operator.
    if spec.get("suspend") or scaling.get("pinnedReplicas") or not told.keys() - {"minReplicas"}:
        return ""
    text = json.dumps(told, separators=(",", ":"), sort_keys=True)
    try:
        Scaling.model_validate_json(text)
    except ValidationError as error:
        log.warning("schedules not understood", extra={"endpoint": name, "error": str(error)})
        return ""
    return text


def _duration(text: str | None, otherwise: int) -> int:
    try:
        return parse_duration(text) if text else otherwise
    except ApiError:
        return otherwise
