"""Tell idle time that was ordered (replicas kept warm for latency) from idle time that is about to end (cooldown).

At each instant the replicas that can serve are ranked by when they first could; those within the endpoint's floor
(minReplicas, the pinned number, or what a schedule or an override keeps) at that instant are kept warm, the rest are
cooling down. Only labels of idle segments change, so no total does.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from zerotide.api.spec_scaling import Scaling
from zerotide.billing.fold import Lifetime, Phase, Segment
from zerotide.billing.spans import Span, clip, union
from zerotide.scaling.schedules import steps_of


class Floor(NamedTuple):
    """The number of replicas that an endpoint keeps in any case, from an instant on.

    `clock`, where it is not empty, says instead how many by the clock: JSON of minReplicas, schedules and override.
    """

    from_us: int
    replicas: int
    clock: str = ""


since: Callable[[Floor], int] = attrgetter("from_us")
"""What floors are sorted by; of several from one instant on the last one holds."""


def label_idle(lifetimes: Sequence[Lifetime], floors: Iterable[Floor]) -> list[Lifetime]:
    """Return the lifetimes of one endpoint's pods with their idle segments told apart, in the same order."""
    steps = sorted(floors, key=since)
    if any(step.clock for step in steps):
        steps = _by_the_clock(steps, lifetimes)
    if not any(step.replicas for step in steps):
        return list(lifetimes)
    kept = _kept(lifetimes, steps)
    return [replace(life, segments=tuple(_split(life, kept.get(life.pod_uid, [])))) for life in lifetimes]


def _by_the_clock(floors: Sequence[Floor], lifetimes: Sequence[Lifetime]) -> list[Floor]:
    """Return the floors with those that the clock moves cut where they change, as far as any pod could serve."""
    warm = [(life.warm_us, life.end_us) for life in lifetimes if life.warm_us is not None]
    first, last = min((low for low, _ in warm), default=0), max((high for _, high in warm), default=0)
    steps = []
    for number, floor in enumerate(floors):
        low = max(floor.from_us, first)
        high = min(floors[number + 1].from_us, last) if number + 1 < len(floors) else last
        if floor.clock and low < high:
            steps += [Floor(*step) for step in steps_of(_scaling(floor.clock), low, high)]
        else:
            steps.append(floor)
    return steps


@lru_cache(maxsize=256)
def _scaling(clock: str) -> Scaling:
    return Scaling.model_validate_json(clock)


def _kept(lifetimes: Sequence[Lifetime], floors: Sequence[Floor]) -> dict[str, list[tuple[int, int]]]:
    """Return, for each pod, the ascending spans in which it is within the floor."""
    serving = sorted((span, life.warm_us or 0, life.pod_uid) for life in lifetimes for span in _served(life))
    edges = sorted({t for span, _, _ in serving for t in span} | {floor.from_us for floor in floors})
    kept: dict[str, list[tuple[int, int]]] = {}
    present: list[tuple[int, str, int]] = []
    arriving, step, replicas = 0, 0, 0
    for low, high in pairwise(edges):
        while step < len(floors) and floors[step].from_us <= low:
            replicas = floors[step].replicas
            step += 1
        present = [each for each in present if each[2] > low]
        while arriving < len(serving) and serving[arriving][0].start_us <= low:
            span, warm, uid = serving[arriving]
            insort(present, (warm, uid, span.end_us))
            arriving += 1
        for _, uid, _ in present[:replicas]:
            spans = kept.setdefault(uid, [])
            if spans and spans[-1][1] == low:
                spans[-1] = (spans[-1][0], high)
            else:
                spans.append((low, high))
    return kept


def _served(life: Lifetime) -> list[Span]:
    """Return when a replica could serve; what ends its requests while it drains takes nothing new."""
    if life.warm_us is None:
        return []
    spans = union(Span(low, high) for low, high, phase in life.segments if phase in (Phase.COOLDOWN, Phase.ACTIVE))
    return list(clip(spans, life.warm_us, life.leave_us))


def _split(life: Lifetime, kept: Sequence[tuple[int, int]]) -> Iterable[Segment]:
    number = 0
    for segment in life.segments:
        if segment.phase != Phase.COOLDOWN:
            yield segment
            continue
        low = segment.start_us
        while number < len(kept) and kept[number][1] <= low:
            number += 1
        for start, end in kept[number:]:
            if start >= segment.end_us:
                break
            if start > low:
                yield Segment(low, start, Phase.COOLDOWN)
                low = start
            yield Segment(low, min(end, segment.end_us), Phase.KEEP_WARM)
            low = min(end, segment.end_us)
        if low < segment.end_us:
            yield Segment(low, segment.end_us, Phase.COOLDOWN)
