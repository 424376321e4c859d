"""What this machine's GPU can do at most: the link from pinned memory, its own memory, and products of matrices."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import torch


def seconds(work: Callable[[], object], times: int = 10) -> float:
    """Return the median time of some work on the device."""
    event: Any = torch.cuda.Event
    found: list[float] = []
    for number in range(times + 3):
        begin, end = (event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        if number >= 3:
            found.append(begin.elapsed_time(end) / 1000)
    return statistics.median(found)


def main() -> None:
    """Print GB/s and TFLOP/s, as JSON."""
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device="cuda")
    large = torch.randn(1 << 30, device="cuda")
    other = torch.empty_like(large)
    left, right = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(),
                "torch": torch.__version__,
                "link_gb_s": host.numel() / seconds(lambda: there.copy_(host, non_blocking=True)) / 1e9,
                "memory_gb_s": 2 * large.numel() * 4 / seconds(lambda: other.copy_(large)) / 1e9,
                "read_gb_s": large.numel() * 4 / seconds(large.sum) / 1e9,
                "product_tflop_s": 2 * 8192**3 / seconds(lambda: left @ right) / 1e12,
            }
        )
    )


if __name__ == "__main__":
    main()
