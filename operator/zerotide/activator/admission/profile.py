"""What of an InferenceEndpoint matters to a request, computed once per change of the object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from zerotide.activator.access.trust import Trust, trust_of
from zerotide.activator.admission.affinity import Routing
from zerotide.api.conditions import ConditionType, Reason
from zerotide.api.endpoint import Engine, InferenceEndpoint
from zerotide.api.errors import ErrorCode, Rejection, code_of_reason
from zerotide.api.scalars import parse_duration, parse_time
from zerotide.api.spec_serving import Fallback


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why an endpoint takes no requests; `due_us` is when it will again, where that is known."""

    code: ErrorCode
    message: str
    due_us: int | None = None

    def rejection(self, now_us: int) -> Rejection:
        """Return the answer to a request."""
        ready_in = None if self.due_us is None else max(self.due_us - now_us, 0)
        return Rejection(self.code, self.message, ready_in_us=ready_in)


class Abroad(NamedTuple):
    """A URL that serves in an endpoint's place; `secret` and `model` are empty for none and for the endpoint's own."""

    namespace: str
    url: str
    secret: str
    model: str

    @property
    def host(self) -> str:
        """Return the URL's host."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class Profile:
    """An endpoint as requests see it; times in seconds, sizes in bytes."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    created: str
    model_name: str
    model_names: tuple[str, ...]
    adapters: tuple[str, ...]
    """Called by any name of the model, a colon and their own."""
    owner: str
    open: bool
    trust: Trust | None
    """Whose tokens open it, None where keys do or nothing is needed."""
    consumer_limit: int
    engine: Engine
    port: int
    readiness_path: str
    limit: int
    """Requests in flight per replica, 0 for any number."""
    routing: Routing
    holds: bool
    falls_back: bool
    """Whether its fallback serves while it is cold."""
    fallback: str | Abroad
    """The endpoint of its namespace that serves in its place, or what does outside of it; empty for none."""
    wakes_for_batch: bool
    cold_timeout: float
    busy_timeout: float
    max_requests: int
    max_bytes: int
    heartbeat: float
    request_timeout: float
    max_body_bytes: int
    extra_paths: frozenset[str]
    web_socket: bool
    grpc: bool
    """Whether its replicas speak gRPC, and nothing else."""
    denies_unbilled: bool
    """Whether it serves nothing that cannot be billed."""
    state: str
    blocked: Blocked | None
    asleep: bool
    """Whether no replica is wanted now."""
    wake_id: str
    wake_handled: bool
    """Whether the newest wake request was acted upon, or there is none."""
    starts_us: tuple[int, ...]
    """How long the newest starts took, over all activators."""
    key: str = field(init=False)
    """`namespace/name`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.namespace}/{self.name}")

    def serves(self, model: str) -> bool:
        """Tell whether `model` names this endpoint's model, or an adapter of it."""
        if model in self.model_names or model == self.key:
            return True
        base, _, adapter = model.rpartition(":")
        return adapter in self.adapters and (base in self.model_names or base == self.key)

    def adapter_of(self, model: str) -> str:
        """Return the adapter that `model` names here, empty for the model itself."""
        _, colon, adapter = model.rpartition(":")
        return adapter if colon and adapter in self.adapters else ""

    def engine_name(self, model: str) -> str:
        """Return by what name the engine knows what `model` names here."""
        adapter = self.adapter_of(model)
        return f"{self.model_name}:{adapter}" if adapter else self.model_name


def profile_of(endpoint: InferenceEndpoint) -> Profile:
    """Return the profile of an endpoint."""
    spec, status, metadata = endpoint.spec, endpoint.status, endpoint.metadata
    wake = status.wake_request
    starts = status.cold_starts
    return Profile(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        created=metadata.creation_timestamp or "",
        model_name=endpoint.model_name,
        model_names=endpoint.model_names,
        adapters=tuple(adapter.name for adapter in spec.model.adapters),
        owner=endpoint.owner,
        open=spec.access.auth == "Open",
        trust=trust_of(spec.access, metadata.namespace),
        consumer_limit=spec.access.max_in_flight_per_consumer,
        engine=spec.runtime.engine,
        port=spec.runtime.port,
        readiness_path=spec.runtime.readiness.asked,
        limit=spec.scaling.concurrency.limit,
        routing=Routing(
            spec.routing.prefix_bytes if spec.routing.policy == "PrefixAffinity" else 0,
            spec.routing.max_load_percent,
            (spec.routing.sticky_header or "").lower().encode(),
        ),
        holds=spec.hold.while_cold != "Reject",
        falls_back=spec.hold.while_cold == "Fallback",
        fallback=fallback_of(spec.hold.fallback, metadata.namespace),
        wakes_for_batch=spec.hold.wake_for == "Any",
        cold_timeout=spec.hold.cold_timeout.seconds,
        busy_timeout=spec.hold.busy_timeout.seconds,
        max_requests=spec.hold.max_requests,
        max_bytes=spec.hold.max_bytes.units,
        heartbeat=spec.hold.heartbeat.seconds,
        request_timeout=spec.request.timeout.seconds,
        max_body_bytes=spec.request.max_body_bytes.units,
        extra_paths=frozenset(spec.request.extra_paths),
        web_socket=spec.request.web_socket == "Enabled",
        grpc=spec.runtime.protocol == "GRPC",
        denies_unbilled=spec.billing.on_ledger_failure == "Deny",
        state=status.state or "Asleep",
        blocked=blocked(endpoint),
        asleep=not status.desired_replicas,
        wake_id=wake.id if wake else "",
        wake_handled=wake is None or wake.id == status.handled_wake_request,
        starts_us=tuple(parse_duration(length) for length in starts.recent) if starts else (),
    )


def fallback_of(fallback: Fallback | None, namespace: str) -> str | Abroad:
    """Return what serves in an endpoint's place."""
    if fallback is None:
        return ""
    if fallback.url is None:
        return fallback.endpoint_ref.name if fallback.endpoint_ref is not None else ""
    secret = fallback.secret_ref.name if fallback.secret_ref is not None else ""
    return Abroad(namespace, fallback.url, secret, fallback.model or "")


def blocked(endpoint: InferenceEndpoint) -> Blocked | None:
    """Tell why an endpoint takes no requests, None where it does.

    The spec says it at once; a condition that was made for an older spec says nothing about this one.
    """
    if endpoint.spec.suspend:
        return Blocked(ErrorCode.SUSPENDED, f"endpoint {endpoint.key} is suspended")
    accepting = endpoint.status.condition(ConditionType.ACCEPTING.value)
    if accepting is None or accepting.status != "False":
        return None
    if (accepting.observed_generation or 0) < endpoint.metadata.generation or accepting.reason == Reason.SUSPENDED:
        return None
    code = code_of_reason(accepting.reason)
    message = f"endpoint {endpoint.key}: {endpoint.status.explanation(accepting)}"
    failed = endpoint.status.failed_starts
    retry_time = failed.retry_time if failed is not None and code is ErrorCode.START_BACKOFF else None
    return Blocked(code, message, parse_time(retry_time) if retry_time else None)
