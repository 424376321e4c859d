"""The InferenceEndpoint: a model that is served, and sleeps while nobody calls it.

The parts of the spec live in the modules `spec_…`, the status in `status`; all of them can be imported from here.
Rules that span parts are listed here, on the spec: the API server checks rules of a defaulted object before its own
fields are defaulted, so they cannot live further down.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool

from zerotide.api.base import Model, Object, Rule
from zerotide.api.names import API_VERSION, KIND_ENDPOINT, PATTERN_ENDPOINT_NAME, is_endpoint_name
from zerotide.api.spec_access import JWT, Access
from zerotide.api.spec_model import ModelSpec, ModelUri, SecretRef, parse_uri
from zerotide.api.spec_runtime import (
    Accelerator,
    Alternative,
    Engine,
    EnvSource,
    EnvVar,
    KeyRef,
    PodMetadata,
    PodTemplate,
    Readiness,
    Resources,
    RuntimeSpec,
)
from zerotide.api.spec_scaling import Concurrency, Idle, Prewarm, Scaling, Stabilization
from zerotide.api.spec_schedules import Override, Schedule
from zerotide.api.spec_serving import Billing, Cache, Drain, Hold, Request, Routing, Start
from zerotide.api.status import (
    AcceleratorStatus,
    ColdStarts,
    Condition,
    Decision,
    FailedStarts,
    HandledAnnotations,
    LastWake,
    LearnedIdle,
    LiveOverride,
    ModelStatus,
    OpenWindow,
    PrewarmOpening,
    PrewarmStatus,
    Status,
    VerificationStatus,
    WakeRequest,
    WakeStage,
)

__all__ = [
    "JWT",
    "Accelerator",
    "AcceleratorStatus",
    "Access",
    "Alternative",
    "Billing",
    "Cache",
    "ColdStarts",
    "Concurrency",
    "Condition",
    "Decision",
    "Drain",
    "Engine",
    "EnvSource",
    "EnvVar",
    "FailedStarts",
    "HandledAnnotations",
    "Hold",
    "Idle",
    "InferenceEndpoint",
    "KeyRef",
    "LastWake",
    "LearnedIdle",
    "LiveOverride",
    "ModelSpec",
    "ModelStatus",
    "ModelUri",
    "OpenWindow",
    "Override",
    "PodMetadata",
    "PodTemplate",
    "Prewarm",
    "PrewarmOpening",
    "PrewarmStatus",
    "Readiness",
    "Request",
    "Resources",
    "Routing",
    "RuntimeSpec",
    "Scaling",
    "Schedule",
    "SecretRef",
    "Spec",
    "Stabilization",
    "Start",
    "Status",
    "VerificationStatus",
    "WakeRequest",
    "WakeStage",
    "parse_uri",
]


class Spec(Model):
    """What is served, on what, and how."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.scaling.minReplicas <= self.scaling.maxReplicas",
            "scaling.minReplicas must not be greater than scaling.maxReplicas",
            lambda spec: spec.scaling.min_replicas <= spec.scaling.max_replicas,
            ".scaling.minReplicas",
        ),
        Rule(
            "self.scaling.pinnedReplicas <= self.scaling.maxReplicas",
            "scaling.pinnedReplicas must not be greater than scaling.maxReplicas",
            lambda spec: spec.scaling.pinned_replicas <= spec.scaling.max_replicas,
            ".scaling.pinnedReplicas",
        ),
        Rule(
            "!has(self.scaling.schedules) "
            "|| self.scaling.schedules.all(window, window.minReplicas <= self.scaling.maxReplicas)",
            "minReplicas of scaling.schedules must not be greater than scaling.maxReplicas",
            lambda spec: all(window.min_replicas <= spec.scaling.max_replicas for window in spec.scaling.schedules),
            ".scaling.schedules",
        ),
        # A rule of the change alone: one that is over may stay in the spec, where it must not hold maxReplicas up, and
        # CEL has no clock. The operator keeps no more than maxReplicas.
        Rule(
            "!has(self.scaling.override) || self.scaling.override.minReplicas <= self.scaling.maxReplicas "
            "|| (has(oldSelf.scaling.override) && self.scaling.override == oldSelf.scaling.override)",
            "scaling.override.minReplicas must not be greater than scaling.maxReplicas",
            lambda spec: True,
            ".scaling.override.minReplicas",
        ),
        Rule(
            "self.scaling.concurrency.limit == 0 || self.scaling.concurrency.target <= self.scaling.concurrency.limit",
            "scaling.concurrency.target must not be greater than scaling.concurrency.limit, unless that is 0",
            lambda spec: (
                spec.scaling.concurrency.limit == 0 or spec.scaling.concurrency.target <= spec.scaling.concurrency.limit
            ),
            ".scaling.concurrency.target",
        ),
        Rule(
            "self.runtime.engine != 'custom' || has(self.runtime.image)",
            "runtime.image must be given where runtime.engine is custom",
            lambda spec: spec.runtime.engine is not Engine.CUSTOM or spec.runtime.image is not None,
            ".runtime.image",
        ),
        Rule(
            "self.runtime.readiness.type != 'Token' || !has(self.runtime.readiness.path)",
            "runtime.readiness.path must be absent where runtime.readiness.type is Token: each engine has its own",
            lambda spec: spec.runtime.readiness.type != "Token" or spec.runtime.readiness.path is None,
            ".runtime.readiness.path",
        ),
        Rule(
            "self.runtime.readiness.type != 'Token' || self.runtime.engine != 'custom'",
            "runtime.readiness.type must be HTTP where runtime.engine is custom: nobody knows how to ask it for one",
            lambda spec: spec.runtime.readiness.type != "Token" or spec.runtime.engine is not Engine.CUSTOM,
            ".runtime.readiness.type",
        ),
        Rule(
            "self.runtime.protocol != 'GRPC' || self.runtime.engine == 'custom'",
            "runtime.engine must be custom where runtime.protocol is GRPC: the others are driven over HTTP",
            lambda spec: spec.runtime.protocol != "GRPC" or spec.runtime.engine is Engine.CUSTOM,
            ".runtime.protocol",
        ),
        Rule(
            "self.runtime.protocol != 'GRPC' || (has(self.request.extraPaths) && self.request.extraPaths.size() > 0)",
            "request.extraPaths must name the methods that may be called where runtime.protocol is GRPC",
            lambda spec: spec.runtime.protocol != "GRPC" or bool(spec.request.extra_paths),
            ".request.extraPaths",
        ),
        Rule(
            "self.runtime.protocol != 'GRPC' || self.request.webSocket == 'Disabled'",
            "request.webSocket must be Disabled where runtime.protocol is GRPC",
            lambda spec: spec.runtime.protocol != "GRPC" or spec.request.web_socket == "Disabled",
            ".request.webSocket",
        ),
        Rule(
            "self.runtime.engine != 'llamacpp' || !has(self.scaling.tokensInFlight)",
            "scaling.tokensInFlight must be absent where runtime.engine is llamacpp: it does not tell them",
            lambda spec: spec.runtime.engine is not Engine.LLAMACPP or spec.scaling.tokens_in_flight is None,
            ".scaling.tokensInFlight",
        ),
        Rule(
            "!has(self.scaling.ping) || self.runtime.protocol == 'HTTP'",
            "scaling.ping must be absent where runtime.protocol is GRPC: pings are sent over HTTP/1.1",
            lambda spec: spec.scaling.ping is None or spec.runtime.protocol == "HTTP",
            ".scaling.ping",
        ),
        Rule(
            "!has(self.scaling.ping) || has(self.scaling.ping.path) || self.runtime.engine != 'custom'",
            "scaling.ping.path must be given where runtime.engine is custom: nobody knows what it can be asked",
            lambda spec: (
                spec.scaling.ping is None
                or spec.scaling.ping.path is not None
                or spec.runtime.engine is not Engine.CUSTOM
            ),
            ".scaling.ping",
        ),
        Rule(
            "duration(self.hold.coldTimeout) <= duration(self.start.capacityTimeout) + duration(self.start.deadline)",
            "hold.coldTimeout must not be longer than start.capacityTimeout and start.deadline together",
            lambda spec: spec.hold.cold_timeout.us <= spec.start.capacity_timeout.us + spec.start.deadline.us,
            ".hold.coldTimeout",
        ),
        Rule(
            "self.hold.whileCold != 'Fallback' || has(self.hold.fallback)",
            "hold.fallback must be given where hold.whileCold is Fallback",
            lambda spec: spec.hold.while_cold != "Fallback" or spec.hold.fallback is not None,
            ".hold.whileCold",
        ),
        Rule(
            "!has(self.hold.fallback) || self.runtime.protocol == 'HTTP'",
            "hold.fallback must be absent where runtime.protocol is GRPC: a call is sent to its own endpoint only",
            lambda spec: spec.hold.fallback is None or spec.runtime.protocol == "HTTP",
            ".hold.fallback",
        ),
        Rule(
            "duration(self.drain.timeout) >= duration(self.request.timeout)",
            "drain.timeout must not be shorter than request.timeout, or requests would be cut off",
            lambda spec: spec.drain.timeout.us >= spec.request.timeout.us,
            ".drain.timeout",
        ),
        Rule(
            "quantity(self.hold.maxBytes).compareTo(quantity(self.request.maxBodyBytes)) >= 0",
            "hold.maxBytes must not be smaller than request.maxBodyBytes, or the largest request could not be held",
            lambda spec: spec.hold.max_bytes.value >= spec.request.max_body_bytes.value,
            ".hold.maxBytes",
        ),
        Rule(
            "(self.cache.type == 'PersistentVolumeClaim') == has(self.cache.persistentVolumeClaim)",
            "cache.persistentVolumeClaim must be given where cache.type is PersistentVolumeClaim, and only there",
            lambda spec: (
                (spec.cache.type == "PersistentVolumeClaim") == (spec.cache.persistent_volume_claim is not None)
            ),
            ".cache.persistentVolumeClaim",
        ),
        Rule(
            "self.cache.type == 'None' || self.runtime.engine != 'zerotide' || self.model.uri.startsWith('hf://')",
            "cache.type must be None where runtime.engine is zerotide and model.uri not hf://: nothing would be kept",
            lambda spec: (
                spec.cache.type == "None"
                or spec.runtime.engine is not Engine.ZEROTIDE
                or spec.model.uri.startswith("hf://")
            ),
            ".cache.type",
        ),
        Rule(
            "(self.access.auth == 'JWT') == has(self.access.jwt)",
            "access.jwt must be given where access.auth is JWT, and only there",
            lambda spec: (spec.access.auth == "JWT") == (spec.access.jwt is not None),
            ".access.jwt",
        ),
    )
    model: Annotated[ModelSpec, Field(description="What is served.")]
    runtime: Annotated[RuntimeSpec, Field(description="The engine and its container.")] = RuntimeSpec()
    accelerator: Annotated[
        Accelerator | None, Field(description="The accelerators of one replica. Absent: it runs on the CPU.")
    ] = None
    resources: Annotated[
        Resources, Field(description="Requests and limits of the model's container, as in any pod.")
    ] = Resources()
    scaling: Annotated[Scaling, Field(description="How many replicas, and when none.")] = Scaling()
    hold: Annotated[Hold, Field(description="What happens to requests that cannot be served yet.")] = Hold()
    start: Annotated[Start, Field(description="How long a start may take, and when it is given up.")] = Start()
    request: Annotated[Request, Field(description="Limits of one request.")] = Request()
    routing: Annotated[Routing, Field(description="Which replica a request goes to.")] = Routing()
    drain: Annotated[Drain, Field(description="How a replica leaves.")] = Drain()
    access: Annotated[Access, Field(description="Who may call.")] = Access()
    cache: Annotated[Cache, Field(description="Where weights are kept between starts.")] = Cache()
    billing: Annotated[Billing, Field(description="Who pays.")] = Billing()
    suspend: Annotated[
        StrictBool, Field(description="Whether it must sleep, whatever arrives; requests are answered with an error.")
    ] = False
    pod_template: Annotated[
        PodTemplate | None,
        Field(description="What is merged into the pods, by strategic merge; the way out where no field fits."),
    ] = None


class InferenceEndpoint(Object):
    """A model that is served, and sleeps while nobody calls it."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.matches('{PATTERN_ENDPOINT_NAME}')",
            "metadata.name must begin with a letter and be at most 46 lower-case letters, digits and `-`",
            lambda endpoint: is_endpoint_name(endpoint.metadata.name),
            ".metadata.name",
        ),
        Rule(
            "!has(self.spec.hold.fallback) || !has(self.spec.hold.fallback.endpointRef) || "
            "self.spec.hold.fallback.endpointRef.name != self.metadata.name",
            "spec.hold.fallback must name another endpoint",
            lambda endpoint: (
                endpoint.spec.hold.fallback is None
                or endpoint.spec.hold.fallback.endpoint_ref is None
                or endpoint.spec.hold.fallback.endpoint_ref.name != endpoint.metadata.name
            ),
            ".spec.hold",
        ),
    )
    api_version: Literal["zerotide.dev/v1alpha1"] = API_VERSION
    kind: Literal["InferenceEndpoint"] = KIND_ENDPOINT
    spec: Annotated[Spec, Field(description="What is served, on what, and how.")]
    status: Annotated[Status, Field(description="What the operator saw and decided.")] = Status()

    @property
    def model_name(self) -> str:
        """Return the name by which clients ask for the model."""
        return self.spec.model.name or self.metadata.name

    @property
    def model_names(self) -> tuple[str, ...]:
        """Return every name by which clients may ask for the model, the main one first."""
        return tuple(dict.fromkeys((self.model_name, *self.spec.model.aliases)))

    @property
    def owner(self) -> str:
        """Return the consumer, `namespace/name`, who pays for time that no caller pays for."""
        return f"{self.metadata.namespace}/{self.spec.billing.consumer or self.metadata.name}"
