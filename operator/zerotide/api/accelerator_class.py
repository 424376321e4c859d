"""AcceleratorClass: how devices of one kind are asked for, and on which nodes they are.

An endpoint names a class in `accelerator.className`. A name that no object has still names a price; its devices are
`nvidia.com/gpu` then, on any node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt

from zerotide.api.base import Matches, Model, Name, Object, Rule
from zerotide.api.names import (
    API_VERSION,
    DEVICE_RESOURCES,
    KIND_ACCELERATOR_CLASS,
    PATTERN_CLASS_NAME,
    RESOURCE_GPU,
    is_class_name,
)
from zerotide.api.spec_runtime import LABEL_KEY, LabelValue


class Toleration(Model):
    """A taint that replicas may run in spite of, as in any pod."""

    RULES = (
        Rule(
            "self.operator == 'Equal' || !has(self.value)",
            "must not have a value where operator is Exists",
            lambda self: self.operator == "Equal" or self.value is None,
        ),
        Rule(
            "self.operator == 'Exists' || has(self.key)",
            "must have a key where operator is Equal",
            lambda self: self.operator == "Exists" or self.key is not None,
        ),
    )
    key: Annotated[
        Annotated[str, Field(min_length=1, max_length=316)] | None,
        Field(description="Key of the taint. Absent with operator Exists: every taint."),
    ] = None
    operator: Annotated[
        Literal["Equal", "Exists"], Field(description="Whether the taint's value must be equal or may be any.")
    ] = "Equal"
    value: Annotated[LabelValue | None, Field(description="Value of the taint.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="Effect of the taint. Absent: any."),
    ] = None


class NamespaceSelector(Model):
    """Namespaces, by their labels."""

    match_labels: Annotated[
        Annotated[Mapping[str, LabelValue], Field(max_length=16), LABEL_KEY] | None,
        Field(description="Labels that a namespace must have, all of them. Absent or empty: every namespace."),
    ] = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a namespace with these labels is meant."""
        return all(labels.get(key) == value for key, value in (self.match_labels or {}).items())


class AcceleratorClassSpec(Model):
    """How devices of the class are asked for."""

    resource_name: Annotated[
        str,
        Field(
            max_length=63,
            description="Extended resource under which nodes offer the devices, such as nvidia.com/gpu, "
            "nvidia.com/mig-1g.10gb or amd.com/gpu.",
        ),
        Matches(
            DEVICE_RESOURCES,
            "be a resource whose use is metered: nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-*, amd.com/gpu "
            "or habana.ai/gaudi*",
        ),
    ] = RESOURCE_GPU
    max_count: Annotated[
        StrictInt | None,
        Field(ge=1, le=64, description="Devices that one node has at most, and so one replica. Absent: no limit."),
    ] = None
    provisioning: Annotated[
        Literal["None", "OnDemand"],
        Field(
            description="Whether nodes with such devices are added when pods wait for them. OnDemand: a replica that "
            "no present node could hold is waited for. None: it is refused at once."
        ),
    ] = "None"
    node_selector: Annotated[
        Annotated[Mapping[str, LabelValue], Field(max_length=16), LABEL_KEY] | None,
        Field(description="Labels that the nodes must have."),
    ] = None
    tolerations: Annotated[
        tuple[Toleration, ...],
        Field(
            max_length=16,
            description="Taints of such nodes that replicas tolerate, beside that of the resource itself.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    namespace_selector: Annotated[
        NamespaceSelector | None,
        Field(description="Namespaces whose endpoints may use the class. Absent: all of them."),
    ] = None
    runtime_class_name: Annotated[
        Name | None, Field(description="RuntimeClass of the pods, such as nvidia. Absent: the cluster's default.")
    ] = None

    def open_to(self, labels: Mapping[str, str]) -> bool:
        """Tell whether endpoints of a namespace with these labels may use the class."""
        return self.namespace_selector is None or self.namespace_selector.matches(labels)


class AcceleratorClass(Object):
    """Devices of one kind: how they are asked for, and on which nodes they are."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.matches('{PATTERN_CLASS_NAME}')",
            "metadata.name must be at most 63 lower-case letters, digits, `-` and `.`",
            lambda cls: is_class_name(cls.metadata.name),
            ".metadata.name",
        ),
    )
    api_version: Literal["zerotide.dev/v1alpha1"] = API_VERSION
    kind: Literal["AcceleratorClass"] = KIND_ACCELERATOR_CLASS
    spec: Annotated[AcceleratorClassSpec, Field(description="How devices of the class are asked for.")]
