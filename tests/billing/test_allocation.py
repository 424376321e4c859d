"""What a pod keeps others from using, and which price class that is."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from tests.billing.worlds import pod
from zerotide.api.accelerator_class import PartOf
from zerotide.billing.allocation import accelerator_of, allocation_of, class_of_product
from zerotide.billing.errors import InvalidFact
from zerotide.billing.facts import Accelerator, Allocation, decode_accelerator, encode
from zerotide.billing.rating import rates_of


def container(name: str = "model", restart: str = "", **requests: str) -> dict[str, Any]:
    """Return a container with requests; `gpu` stands for nvidia.com/gpu."""
    named = {{"gpu": "nvidia.com/gpu"}.get(key, key): value for key, value in requests.items()}
    return {"name": name, "resources": {"requests": named}} | ({"restartPolicy": restart} if restart else {})


def node(product: str = "", **labels: str) -> dict[str, Any]:
    """Return a node with the labels of the GPU feature discovery."""
    return {"metadata": {"labels": {"nvidia.com/gpu.product": product, **labels}}}


def test_containers_add_up_and_init_containers_only_raise_the_peak() -> None:
    given = pod()
    given["spec"]["containers"] = [container(cpu="500m", memory="1Gi", gpu="2"), container("side", cpu="250m")]
    given["spec"]["initContainers"] = [
        container("proxy", "Always", cpu="100m", memory="64Mi"),
        container("fetch", cpu="2", memory="1Mi"),
    ]
    assert allocation_of(given) == Allocation("nvidia.com/gpu", 2, 2100, 2**30 + 64 * 2**20)


def test_limits_and_overhead_and_pod_requests_count() -> None:
    given = pod()
    given["spec"]["containers"] = [{"name": "model", "resources": {"limits": {"cpu": "1"}}}]
    given["spec"]["overhead"] = {"cpu": "10m"}
    assert allocation_of(given).cpu_milli == 1010
    given["spec"]["resources"] = {"requests": {"cpu": "3"}}
    assert allocation_of(given).cpu_milli == 3010


@pytest.mark.parametrize(("cpu", "milli"), [("0.0005", 1), ("1e1", 10_000), ("100u", 1), ("1500000n", 2)])
def test_rare_forms_of_quantities_are_read_and_rounded_up(cpu: str, milli: int) -> None:
    given = pod(requests={"cpu": cpu})
    assert allocation_of(given).cpu_milli == milli


@pytest.mark.parametrize(
    ("product", "class_name"),
    [
        ("NVIDIA-H100-80GB-HBM3", "nvidia-h100-80gb"),
        ("NVIDIA-A100-SXM4-80GB", "nvidia-a100-80gb"),
        ("NVIDIA-A100-80GB-PCIe", "nvidia-a100-80gb"),
        ("NVIDIA-L4", "nvidia-l4"),
        ("NVIDIA-L40S", "nvidia-l40s"),
        ("NVIDIA-GeForce-RTX-4090", "nvidia-rtx-4090"),
        ("Tesla-T4", "nvidia-t4"),
        ("Tesla-T4-SHARED", "nvidia-t4-shared"),
        ("", ""),
    ],
)
def test_products_map_to_price_classes(product: str, class_name: str) -> None:
    assert class_of_product(product) == class_name


def test_the_endpoint_names_the_class_before_the_node_does() -> None:
    whole = Allocation("nvidia.com/gpu", 1)
    assert accelerator_of(whole, class_name="mine", node=node("NVIDIA-L4")) == Accelerator(2, "mine")
    assert accelerator_of(whole, node=node("NVIDIA-L4")) == Accelerator(1, "nvidia-l4")
    assert accelerator_of(whole) is None
    assert accelerator_of(Allocation(), class_name="mine") is None


def test_a_class_that_is_part_of_another_is_billed_as_that_part() -> None:
    """Whatever the node says; the ledger's text is the old one where it is one part."""
    mig, part = (
        Allocation("nvidia.com/mig-2g.20gb", 1),
        PartOf(class_name="nvidia-h100-80gb", numerator=2, denominator=7),
    )
    device = accelerator_of(mig, class_name="two", part=part, node=node("NVIDIA-H100-80GB-HBM3"))
    assert device == Accelerator(2, "nvidia-h100-80gb", 7, 2) and rates_of(mig, device)[0].quantity == Fraction(2, 7)
    assert encode(device) == '[2,"nvidia-h100-80gb",7,2]' and decode_accelerator(encode(device)) == device
    half = accelerator_of(mig, class_name="two", part=PartOf(class_name="a", numerator=2, denominator=4))
    assert half == Accelerator(2, "a", 2) and encode(half) == '[2,"a",2]' and decode_accelerator('[2,"a",2]') == half
    assert accelerator_of(Allocation(), class_name="two", part=part) is None
    for text in ('[2,"a",7,8]', '[2,"a",7,0]', '[2,"a",7,1]', '[2,"a",0]'):
        with pytest.raises(InvalidFact):
            decode_accelerator(text)


def test_partitions_are_classes_and_time_slices_are_fractions() -> None:
    partition = accelerator_of(Allocation("nvidia.com/mig-1g.10gb", 1), node=node("NVIDIA-H100-80GB-HBM3"))
    assert partition == Accelerator(1, "nvidia-h100-80gb-mig-1g.10gb")
    shared = Allocation("nvidia.com/gpu.shared", 2)
    device = accelerator_of(shared, node=node("NVIDIA-L4", **{"nvidia.com/gpu.replicas": "7"}))
    assert rates_of(shared, device)[0].quantity == Fraction(2, 7)
