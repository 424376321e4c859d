"""`spec.runtime`, `spec.accelerator`, `spec.resources`, `spec.podTemplate`: what runs, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt

from zerotide.api.base import Keys, Matches, Model, Name, Quantity, Rule, Unique
from zerotide.api.names import PATTERN_CLASS_NAME, RESOURCE_GPU
from zerotide.api.scalars import PATTERN_QUANTITY, parse_quantity

DEFAULT_PATH = "/health"
"""Where every engine that we know tells whether it can serve."""


class Engine(StrEnum):
    """The program that serves the model."""

    ZEROTIDE = "zerotide"
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    TGI = "tgi"
    CUSTOM = "custom"


class KeyRef(Model):
    """One key of a Secret or ConfigMap in the endpoint's namespace."""

    name: Annotated[Name, Field(description="Name of the object.")]
    key: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key within the object."),
    ]
    optional: Annotated[
        StrictBool, Field(description="Whether the pod may start although the object or the key is absent.")
    ] = False


class EnvSource(Model):
    """Where the value of an environment variable comes from."""

    RULES = (
        Rule(
            "[has(self.secretKeyRef), has(self.configMapKeyRef)].exists_one(x, x)",
            "must have exactly one of secretKeyRef and configMapKeyRef",
            lambda self: (self.secret_key_ref is None) != (self.config_map_key_ref is None),
        ),
    )
    secret_key_ref: Annotated[KeyRef | None, Field(description="A key of a Secret.")] = None
    config_map_key_ref: Annotated[KeyRef | None, Field(description="A key of a ConfigMap.")] = None


class EnvVar(Model):
    """One environment variable of the model's container."""

    RULES = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "must not have both value and valueFrom",
            lambda self: self.value is None or self.value_from is None,
        ),
    )
    name: Annotated[
        str,
        Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the variable."),
    ]
    value: Annotated[str | None, Field(max_length=8192, description="Its value, verbatim.")] = None
    value_from: Annotated[EnvSource | None, Field(description="Where its value comes from.")] = None


class Readiness(Model):
    """How a replica shows that it can serve."""

    type: Annotated[
        Literal["HTTP", "Token"],
        Field(
            description="HTTP: `path` answers with a 2xx status on the runtime's port. Token: besides, the engine has "
            "generated a token, each time that its container starts."
        ),
    ] = "HTTP"
    path: Annotated[
        str | None,
        Field(max_length=256, description="Path that is asked, where type is HTTP. Absent: /health."),
        Matches(r"^/[A-Za-z0-9._~/-]*$", "be an absolute path without query, such as /health"),
    ] = None

    @property
    def asked(self) -> str:
        """Return the path that is asked."""
        return self.path or DEFAULT_PATH


class RuntimeSpec(Model):
    """The engine and its container."""

    engine: Annotated[
        Engine,
        Field(
            description="Which engine's command line and health route are used; custom takes image, args and "
            "readiness as they are."
        ),
    ] = Engine.ZEROTIDE
    image: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
            description="Container image. Absent: the image that the chart sets for the engine; required for custom.",
        ),
    ] = None
    args: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...],
        Field(
            max_length=64,
            description="Further arguments for the engine, verbatim.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    env: Annotated[
        tuple[EnvVar, ...],
        Field(max_length=64, description="Environment variables of the model's container."),
        Unique("name"),
    ] = ()
    port: Annotated[StrictInt, Field(ge=1, le=65535, description="Port on which the engine listens.")] = 8000
    protocol: Annotated[
        Literal["HTTP", "GRPC"],
        Field(
            description="What the engine speaks on its port. HTTP: HTTP/1.1. GRPC: gRPC over HTTP/2 without TLS; "
            "`request.extraPaths` names the methods that may be called, such as "
            "/inference.GRPCInferenceService/ModelInfer, and a replica is ready once gRPC's health service says so."
        ),
    ] = "HTTP"
    service_account_name: Annotated[
        Name | None,
        Field(description="ServiceAccount of the pods. Absent: one that is made for the endpoint and may do nothing."),
    ] = None
    readiness: Annotated[Readiness, Field(description="How a replica shows that it can serve.")] = Readiness()


ClassName = Annotated[str, Field(min_length=1, max_length=63, pattern=PATTERN_CLASS_NAME)]


class Alternative(Model):
    """Accelerators that are taken where those before them cannot be had."""

    class_name: Annotated[ClassName, Field(description="AcceleratorClass, such as nvidia-a100-80gb.")]
    count: Annotated[StrictInt, Field(ge=1, le=64, description="Accelerators per replica.")] = 1


class Accelerator(Model):
    """The accelerators of one replica."""

    RULES = (
        Rule(
            "!has(self.alternatives) || self.alternatives.size() == 0 || has(self.className)",
            "className must be given where there are alternatives",
            lambda self: not self.alternatives or self.class_name is not None,
            ".className",
        ),
        Rule(
            "!has(self.alternatives) || self.alternatives.all(a, !(has(self.className) && a.className == "
            "self.className && a.count == self.count) && self.alternatives.exists_one(b, b == a))",
            "alternatives must not repeat a class with the same count",
            lambda self: (
                len({(self.class_name, self.count), *((each.class_name, each.count) for each in self.alternatives)})
                == 1 + len(self.alternatives)
            ),
            ".alternatives",
        ),
    )
    class_name: Annotated[
        ClassName | None,
        Field(
            description="AcceleratorClass, such as nvidia-h100-80gb: which devices they are, and what they are priced "
            "as. A name that no object has is that of a price, for nvidia.com/gpu on any node. Absent: the default "
            "class of the price file.",
        ),
    ] = None
    count: Annotated[StrictInt, Field(ge=1, le=64, description="Accelerators per replica.")] = 1
    alternatives: Annotated[
        tuple[Alternative, ...],
        Field(
            max_length=4,
            description="What to take, in this order, where replicas waited for `start.capacityTimeout` and no node "
            "had room, or where no node could ever have. A wake begins with the first choice.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


LABEL_KEY = Keys(
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
    "be names of at most 63 letters, digits, `-`, `_` and `.`, with an optional prefix such as example.com/",
)
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$")]
ResourceQuantity = Annotated[Quantity, Field(json_schema_extra={"maxLength": 21, "pattern": PATTERN_QUANTITY})]
ResourceList = Annotated[Mapping[str, ResourceQuantity], Field(max_length=16), LABEL_KEY]


def _no_gpu(self: Any) -> bool:
    return RESOURCE_GPU not in (self.requests or {}) and RESOURCE_GPU not in (self.limits or {})


def _within_limits(self: Any) -> bool:
    limits = self.limits or {}
    return all(
        parse_quantity(value) <= parse_quantity(limits[name])
        for name, value in (self.requests or {}).items()
        if name in limits
    )


class Resources(Model):
    """Requests and limits of the model's container, as in any pod."""

    RULES = (
        Rule(
            f"!(has(self.requests) && '{RESOURCE_GPU}' in self.requests) "
            f"&& !(has(self.limits) && '{RESOURCE_GPU}' in self.limits)",
            f"must not name {RESOURCE_GPU}: ask for accelerators with `accelerator.count`",
            _no_gpu,
        ),
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) "
            "|| quantity(self.requests[name]).compareTo(quantity(self.limits[name])) <= 0)",
            "requests must not be greater than limits",
            _within_limits,
        ),
    )
    requests: Annotated[
        ResourceList | None, Field(description="What the scheduler reserves, such as cpu: 500m and memory: 2Gi.")
    ] = None
    limits: Annotated[ResourceList | None, Field(description="What the container may use at most.")] = None


_OURS = ("zerotide.dev/", "app.kubernetes.io/", "metering.zerotide.dev/")
_NOT_OURS = " && ".join(f"!key.startsWith('{prefix}')" for prefix in _OURS)


def _foreign(keys: Mapping[str, str] | None) -> bool:
    return not any(key.startswith(_OURS) for key in keys or {})


class PodMetadata(Model):
    """Labels and annotations that are added to the pods."""

    RULES = (
        Rule(
            f"!has(self.labels) || self.labels.all(key, {_NOT_OURS})",
            f"labels must not begin with {', '.join(_OURS)}: Zerotide sets those",
            lambda self: _foreign(self.labels),
            ".labels",
        ),
        Rule(
            f"!has(self.annotations) || self.annotations.all(key, {_NOT_OURS})",
            f"annotations must not begin with {', '.join(_OURS)}: Zerotide sets those",
            lambda self: _foreign(self.annotations),
            ".annotations",
        ),
    )
    labels: Annotated[
        Annotated[Mapping[str, LabelValue], Field(max_length=32), LABEL_KEY] | None,
        Field(description="Labels of the pods."),
    ] = None
    annotations: Annotated[
        Annotated[Mapping[str, Annotated[str, Field(max_length=8192)]], Field(max_length=32), LABEL_KEY] | None,
        Field(description="Annotations of the pods."),
    ] = None


class PodTemplate(Model):
    """What is merged into the pods, by strategic merge."""

    metadata: Annotated[PodMetadata | None, Field(description="Labels and annotations of the pods.")] = None
    spec: Annotated[
        Mapping[str, Any] | None,
        Field(
            max_length=64,
            description="A pod spec that is merged into the one that Zerotide renders; the model's container is "
            "named `model`. The pod policy of the cluster applies.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
