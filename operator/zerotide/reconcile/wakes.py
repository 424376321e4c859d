"""Put a wake's stamps together into stages that sum to its total.

The activator saw the demand, the pod's address, its first answers and the first byte; the operator saw the pod get
a node and its container start. Each comes with its own delay: the kubelet reports a container that long since
answers. So a stage ends at the earliest stamp that proves it, and never before the stage ahead of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zerotide.api.endpoint import ColdStarts, LastWake
from zerotide.api.scalars import MILLISECOND, format_duration, format_micro_time, parse_duration
from zerotide.scaling.ranks import nearest_rank

WINDOW = 20
"""Wakes that the percentiles look at."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """When the operator saw the first pod of a wake get a node and start its container, on its own clock."""

    scheduled_us: int | None = None
    started_us: int | None = None

    def moved(self, step_us: int) -> Sightings:
        """Return the same moments by a clock that was set."""
        times = (self.scheduled_us, self.started_us)
        return Sightings(*(None if time_us is None else time_us + step_us for time_us in times))


@dataclass(frozen=True, slots=True)
class WakeStamps:
    """The activator's stamps of a finished wake, converted to the operator's clock."""

    demand_us: int
    first_byte_us: int
    address_us: int | None = None
    connect_us: int | None = None
    ready_us: int | None = None


def record(
    id: str, cause: str, stamps: WakeStamps, seen: Sightings, runtime: Mapping[str, float] | None = None
) -> LastWake:
    """Return the record of a finished wake; `runtime` are the runtime's own stages in milliseconds, see `init_us`."""
    ready = _earliest(stamps.ready_us, stamps.first_byte_us)
    started = _earliest(seen.started_us, stamps.connect_us, ready)
    scheduled = _earliest(seen.scheduled_us, stamps.address_us, started)
    init = init_us(runtime or {})
    edges = [stamps.demand_us]
    for edge in (scheduled, started, max(started, ready - init), ready, stamps.first_byte_us):
        edges.append(min(max(edge, edges[-1]), max(stamps.first_byte_us, stamps.demand_us)))
    names = ("provision", "pull", "load", "init", "firstByte")
    stages = {name: end - begin for name, begin, end in zip(names, edges, edges[1:], strict=False)}
    return LastWake.of(id, format_micro_time(stamps.demand_us), cause, stages)


def init_us(runtime: Mapping[str, float]) -> int:
    """Return how long a runtime took to be ready once its weights were in memory, 0 where it does not tell.

    A runtime tells `init` itself, or, as ours does, when since its process began it had its weights (`read`), the
    library that computes (`import`; the two come side by side) and was `ready`.
    """
    if "init" in runtime:
        return round(runtime["init"] * MILLISECOND)
    if "ready" not in runtime or "read" not in runtime:
        return 0
    loaded = max(runtime["read"], runtime.get("import", 0.0))
    return max(0, round((runtime["ready"] - loaded) * MILLISECOND))


def add(before: ColdStarts | None, wake: LastWake) -> ColdStarts:
    """Return the cold starts with one more wake, the newest."""
    recent = (wake.total, *(before.recent if before else ()))[:WINDOW]
    lengths = sorted(parse_duration(text) for text in recent)
    return ColdStarts(
        window=WINDOW,
        count=len(recent),
        p50=format_duration(nearest_rank(lengths, 50)),
        p90=format_duration(nearest_rank(lengths, 90)),
        recent=recent,
    )


def _earliest(*times: int | None) -> int:
    return min(time for time in times if time is not None)
