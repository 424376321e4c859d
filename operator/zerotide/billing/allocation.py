"""What a pod keeps others from using: devices, cores and bytes, by the scheduler's own arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from typing import Any

from zerotide.api.accelerator_class import PartOf
from zerotide.api.failures import InvalidQuantity
from zerotide.api.scalars import parse_quantity
from zerotide.billing.facts import SOURCE_NODE, SOURCE_SPEC, Accelerator, Allocation

Json = Mapping[str, Any]

_DEVICE_PREFIXES = ("nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "habana.ai/gaudi")
_SHARED = "nvidia.com/gpu.shared"
_LABEL_PRODUCT = "nvidia.com/gpu.product"
_LABEL_REPLICAS = "nvidia.com/gpu.replicas"
# Words of a product name that say how it is built, not what it is: one price covers all of them.
_BUILD_WORDS = {"sxm2", "sxm3", "sxm4", "sxm5", "sxm6", "pcie", "nvl", "hbm2", "hbm2e", "hbm3", "hbm3e", "geforce"}

Requests = dict[str, Decimal]


def allocation_of(pod: Json) -> Allocation:
    """Return what the scheduler subtracts from the node for a pod.

    Containers and sidecars run together and add up; ordinary init containers run one by one and only raise the peak.
    """
    total = effective_requests(pod.get("spec") or {})
    resource = next((name for name in sorted(total) if name.startswith(_DEVICE_PREFIXES) and total[name]), "")
    return Allocation(
        resource,
        _up(total.get(resource, Decimal(0))),
        _up(total.get("cpu", Decimal(0)) * 1000),
        _up(total.get("memory", Decimal(0))),
    )


def effective_requests(spec: Json) -> Requests:
    """Return a pod's requests by resource name: exact cores, bytes and pieces."""
    peak: Requests = {}
    running: Requests = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            running = _added(running, _requests(container))
            peak = _largest(peak, running)
        else:
            peak = _largest(peak, _added(running, _requests(container)))
    total = _largest(peak, _added(running, *map(_requests, spec.get("containers") or ())))
    total = {**total, **_requests(spec)}  # requests of the pod as a whole replace the sum of its containers
    return _added(total, _quantities(spec.get("overhead")))


def accelerator_of(
    allocation: Allocation, *, class_name: str = "", part: PartOf | None = None, node: Json | None = None
) -> Accelerator | None:
    """Return the device behind an allocation: the endpoint's class name, else the node's product label.

    What the class says of `part` counts before what the node does; without it a part of a partitioned device is its
    own class. None when the pod has no device or nobody names it.
    """
    if not allocation.resource:
        return None
    if part is not None:
        whole = Fraction(part.numerator, part.denominator)
        return Accelerator(SOURCE_SPEC, part.class_name, whole.denominator, whole.numerator)
    labels = ((node or {}).get("metadata") or {}).get("labels") or {}
    parts = _positive(labels.get(_LABEL_REPLICAS)) if allocation.resource == _SHARED else 1
    if class_name:
        return Accelerator(SOURCE_SPEC, class_name, parts)
    product = class_of_product(labels.get(_LABEL_PRODUCT, ""))
    if allocation.resource.startswith("nvidia.com/mig-"):
        profile = allocation.resource.removeprefix("nvidia.com/")
        return Accelerator(SOURCE_NODE, f"{product}-{profile}" if product else profile)
    return Accelerator(SOURCE_NODE, product, parts) if product else None


def class_of_product(product: str) -> str:
    """Return the price class of a product label: `NVIDIA-H100-80GB-HBM3` is `nvidia-h100-80gb`.

    A device that is shared under the name of the whole one keeps its `-shared`, so that no whole price fits it.
    """
    words = [word for word in product.lower().replace(" ", "-").split("-") if word and word not in _BUILD_WORDS]
    if words[:1] == ["tesla"]:
        words[0] = "nvidia"
    return "-".join(words)


def _requests(container: Json) -> Requests:
    resources = container.get("resources") or {}
    # The API server copies limits to requests where those are absent; a pod from elsewhere may not have been there.
    return {**_quantities(resources.get("limits")), **_quantities(resources.get("requests"))}


def _quantities(resources: Json | None) -> Requests:
    return {name: _quantity(str(value)) for name, value in (resources or {}).items()}


def _quantity(text: str) -> Decimal:
    try:
        return parse_quantity(text)
    except InvalidQuantity:
        # Forms that people rarely write but the API server accepts: exponents and fractions below a thousandth.
        for suffix, scale in (("n", Decimal("1e-9")), ("u", Decimal("1e-6")), ("Ei", Decimal(2) ** 60)):
            if text.endswith(suffix):
                return Decimal(text.removesuffix(suffix)) * scale
        return Decimal(text.replace("E", "e") if text[-1:] != "E" else text[:-1] + "e18")


def _added(*parts: Requests) -> Requests:
    total: Requests = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, Decimal(0)) + value
    return total


def _largest(one: Requests, other: Requests) -> Requests:
    names: Iterable[str] = {*one, *other}
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in names}


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))


def _positive(text: str | None) -> int:
    return max(int(text), 1) if text and text.isdigit() else 1
