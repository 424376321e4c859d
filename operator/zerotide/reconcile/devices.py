"""Which accelerators a replica may ask for: those that the spec names, in order, as their classes describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from zerotide.api.accelerator_class import AcceleratorClassSpec
from zerotide.api.endpoint import AcceleratorStatus, InferenceEndpoint
from zerotide.api.names import RESOURCE_GPU

Object = dict[str, Any]
Classes = Mapping[str, AcceleratorClassSpec]

_UNNAMED = AcceleratorClassSpec()


@dataclass(frozen=True, slots=True)
class Device:
    """One choice: so many devices of a class; of a class without an object, or without a name, any GPUs."""

    class_name: str | None
    count: int
    spec: AcceleratorClassSpec = _UNNAMED
    allowed: bool = True
    """Whether the endpoint's namespace may use the class."""

    @property
    def on_demand(self) -> bool:
        """Tell whether nodes with such devices are added when pods wait."""
        return self.spec.provisioning == "OnDemand"

    @property
    def memory_share(self) -> Fraction | None:
        """Return what part of the device's memory the replica may take, None where all that it sees is its own."""
        part = self.spec.part_of
        return Fraction(part.numerator, part.denominator) if part and self.spec.sharing == "TimeSlice" else None

    @property
    def text(self) -> str:
        """Return what people read, such as `2 × nvidia-h100-80gb`."""
        return f"{self.count} × {self.class_name or RESOURCE_GPU}"

    @property
    def status(self) -> Object:
        """Return what `status.accelerator` says."""
        return AcceleratorStatus(class_name=self.class_name, count=self.count, summary=self.text).dump()


def devices(
    endpoint: InferenceEndpoint, classes: Classes, labels: Mapping[str, str] = MappingProxyType({})
) -> tuple[Device | None, ...]:
    """Return the choices in order; None alone for an endpoint that runs on the CPU. `labels` are its namespace's."""
    wanted = endpoint.spec.accelerator
    if wanted is None:
        return (None,)
    asked = [(wanted.class_name, wanted.count), *((each.class_name, each.count) for each in wanted.alternatives)]
    known = ((name, count, classes.get(name or "", _UNNAMED)) for name, count in asked)
    return tuple(Device(name, count, spec, spec.open_to(labels)) for name, count, spec in known)
