"""What this container may use, read from its cgroup: a node's totals say nothing about a pod."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

from zerotide_runtime.errors import OutOfMemory

CGROUP = Path("/sys/fs/cgroup")

# The interpreter, torch and a step's activations, measured at 300-450 MB for small models.
OVERHEAD = 512 << 20
UNLIMITED_CACHE = 2 << 30
FEWEST_TOKENS = 128
BATCH_TOKENS = 8192

KERNELS = "128"  # of a model's five shapes of products, for some twenty-five sizes of a batch
TORCH = {
    # oneDNN's cache and torch's own above it; either keeps 1024 without these, at 0.6 MB for both.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": KERNELS,
    "LRU_CACHE_CAPACITY": KERNELS,
    # Pages of 2 MB where the kernel has them on request: weights are read a tenth faster.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def prepare_torch(environment: MutableMapping[str, str]) -> None:
    """Set what torch reads when it is imported; what a user has set stays."""
    for name, value in TORCH.items():
        environment.setdefault(name, value)


def cpu_threads(root: Path = CGROUP, available: int | None = None) -> int:
    """Return how many threads may run at once: the CPU quota rounded up, or all CPUs this process may use."""
    cpus = available or len(os.sched_getaffinity(0))
    quota = _cpu_quota(root)
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def _cpu_quota(root: Path) -> float | None:
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # the first version of cgroups
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    if not quota.strip().isdigit():  # "max", or -1
        return None
    return int(quota) / int(period)


def memory_limit(root: Path = CGROUP) -> int | None:
    """Return this container's memory limit in bytes, or None where there is none."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        # The first version of cgroups writes "no limit" as a number near 2^63.
        return int(text) if text.isdigit() and int(text) < 1 << 60 else None
    return None


def room_for_blocks(limit: int | None, weights: int, per_token: int, wanted: int | None = None) -> bool:
    """Tell whether a second copy of the weights, laid out for batches, leaves a cache that is worth having."""
    return limit is None or limit - 2 * weights - OVERHEAD >= (wanted or BATCH_TOKENS * per_token)


def cache_tokens(limit: int | None, weights: int, per_token: int, wanted: int | None = None) -> int:
    """Return how many tokens the key-value cache may hold; all sizes in bytes, `wanted` is the user's setting.

    The weights count in full: they are mapped, but a model whose pages are dropped and read again is of no use.
    Raise OutOfMemory where nothing useful is left.
    """
    copies = 2 if room_for_blocks(limit, weights, per_token) else 1
    room = wanted or (UNLIMITED_CACHE if limit is None else limit - copies * weights - OVERHEAD)
    tokens = max(0, room) // per_token
    if tokens < FEWEST_TOKENS:
        need = (weights + OVERHEAD + FEWEST_TOKENS * per_token) >> 20
        raise OutOfMemory(
            f"the memory limit of {(limit or room) >> 20} MiB leaves no room for the key-value cache; "
            f"this model needs at least {need} MiB: raise resources.limits.memory"
        )
    return tokens
