"""AcceleratorClass: how devices of one kind are asked for, and on which nodes they are.

An endpoint names a class in `accelerator.className`. A name that no object has still names a price; its devices are
`nvidia.com/gpu` then, on any node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt, ValidationError

from zerotide.api.base import Amount, Matches, Model, Name, Object, Quantity, Rule
from zerotide.api.names import (
    API_VERSION,
    DEVICE_RESOURCES,
    KIND_ACCELERATOR_CLASS,
    PATTERN_CLASS_NAME,
    RESOURCE_GPU,
    is_class_name,
)
from zerotide.api.spec_runtime import LABEL_KEY, ClassName, LabelValue

_PART = re.compile(r"([0-9]{1,2})/([0-9]{1,2}) ([a-z0-9.-]{1,63})", re.ASCII)


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


class PartOf(Model):
    """Which part of a whole device each device of a class is."""

    RULES = (
        Rule(
            "self.numerator <= self.denominator",
            "must not be more than the whole device",
            lambda part: part.numerator <= part.denominator,
        ),
    )
    class_name: Annotated[ClassName, Field(description="Class of the whole device.")]
    numerator: Annotated[StrictInt, Field(ge=1, le=64, description="How many of the equal parts it is.")] = 1
    denominator: Annotated[StrictInt, Field(ge=1, le=64, description="How many equal parts the whole device has.")]

    @property
    def text(self) -> str:
        """Return what is written on pods, such as `1/7 nvidia-h100-80gb`."""
        return f"{self.numerator}/{self.denominator} {self.class_name}"

    @classmethod
    def read(cls, text: str) -> PartOf | None:
        """Read it back; None for what we did not write."""
        found = _PART.fullmatch(text)
        if found is None:
            return None
        try:
            return cls(class_name=found[3], numerator=int(found[1]), denominator=int(found[2]))
        except ValidationError:
            return None


class AcceleratorClassSpec(Model):
    """How devices of the class are asked for."""

    RULES = (
        Rule(
            "self.sharing != 'Exclusive' || !has(self.partOf)",
            "must not have partOf where sharing is Exclusive: a whole device is no part",
            lambda spec: spec.sharing != "Exclusive" or spec.part_of is None,
        ),
    )
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
    memory: Annotated[
        Quantity | None,
        Amount("1Mi", "16Ti"),
        Field(description="Memory of one device, for those who choose a class: `kubectl get zacc` shows it."),
    ] = None
    sharing: Annotated[
        Literal["Exclusive", "Partition", "TimeSlice"],
        Field(
            description="What one device of the class is. Exclusive: a whole one. Partition: a part of one with memory "
            "of its own, such as a MIG instance. TimeSlice: a turn on one whose memory others use too. Of the last two "
            "a replica can have one only."
        ),
    ] = "Exclusive"
    part_of: Annotated[
        PartOf | None,
        Field(
            description="Which part of which whole device it is: billed by that part of the whole one's price; of a "
            "time slice, engines take no more memory than that. Absent: billed by the price of its own class."
        ),
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
        Rule(
            "!has(self.spec.partOf) || self.spec.partOf.className != self.metadata.name",
            "spec.partOf.className must be another class",
            lambda cls: cls.spec.part_of is None or cls.spec.part_of.class_name != cls.metadata.name,
            ".spec.partOf.className",
        ),
    )
    api_version: Literal["zerotide.dev/v1alpha1"] = API_VERSION
    kind: Literal["AcceleratorClass"] = KIND_ACCELERATOR_CLASS
    spec: Annotated[AcceleratorClassSpec, Field(description="How devices of the class are asked for.")]
