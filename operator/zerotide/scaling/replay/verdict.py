"""What all cells come to together, against what was to be reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zerotide.scaling.replay.score import Cell


def floor(x: float) -> float:
    """Return what no rule can beat, against the optimum, for Poisson arrivals with `x` = rate × break-even."""
    return min(1.0, x) / -math.expm1(-x)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All cells together; ratios are ours over theirs, so less is better."""

    vs_chosen_fixed_geo: float
    vs_chosen_fixed_max: float
    vs_hindsight_fixed_geo: float
    vs_hindsight_fixed_max: float
    vs_optimum_geo: float
    poisson_vs_floor: float | None
    """Geometric mean over Poisson cells, None without any."""
    wait_at_equal_gpu_mean: float
    wait_at_equal_gpu_max: float
    cells: int


def verdict(judged: Sequence[Cell], poisson: str = "poisson") -> Verdict:
    """Return what the cells come to; those of the trace named `poisson` are held against the floor."""
    chosen, hindsight = [cell.vs_chosen for cell in judged], [cell.vs_hindsight for cell in judged]
    waits = [cell.wait_at_equal_gpu for cell in judged]
    memoryless = [cell.cost / cell.known_rate for cell in judged if cell.trace == poisson]
    return Verdict(
        vs_chosen_fixed_geo=geometric(chosen),
        vs_chosen_fixed_max=max(chosen),
        vs_hindsight_fixed_geo=geometric(hindsight),
        vs_hindsight_fixed_max=max(hindsight),
        vs_optimum_geo=geometric([cell.vs_optimum for cell in judged]),
        poisson_vs_floor=geometric(memoryless) if memoryless else None,
        wait_at_equal_gpu_mean=sum(waits) / len(waits),
        wait_at_equal_gpu_max=max(waits),
        cells=len(judged),
    )


def geometric(ratios: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
