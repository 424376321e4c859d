"""Fold the facts of one pod into its lifetime: segments that partition its allocation exactly.

The allocation runs from the earliest `scheduled` to the best-ranked end; nothing else can change the total. Inside it,
each instant has one phase; boundaries are clamped into the allocation, so a clock that is off moves an edge between
two phases and never the sum. The result depends on the set of facts alone, not on their order or number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from zerotide.billing.facts import (
    END_RANK,
    Accelerator,
    Allocation,
    Fact,
    Identity,
    Kind,
    decode_accelerator,
    decode_allocation,
    decode_identity,
    run_number,
)
from zerotide.billing.runs import Run, missed, runs_of
from zerotide.billing.spans import Span, clip, union


class Phase(StrEnum):
    """What a replica did with its allocation; `queued` comes before it."""

    QUEUED = "queued"
    PROVISIONING = "provisioning"
    LOADING = "loading"
    ACTIVE = "active"
    KEEP_WARM = "idle_keep_warm"
    COOLDOWN = "idle_cooldown"
    DRAINING = "draining"
    BLOCKED = "blocked"
    LOST = "lost"


class Segment(NamedTuple):
    """A half-open span of a pod's life in one phase."""

    start_us: int
    end_us: int
    phase: Phase

    @property
    def length_us(self) -> int:
        """Return the length in microseconds."""
        return self.end_us - self.start_us


class Flag(StrEnum):
    """What about a lifetime is not proved to the second."""

    END_ESTIMATED = "end_estimated"
    READY_ESTIMATED = "ready_estimated"
    ACTIVITY_ESTIMATED = "activity_estimated"
    RESTARTS_MISSED = "restarts_missed"


@dataclass(frozen=True)
class Lifetime:
    """One pod's life up to the instant that was asked for.

    `start_us` and `end_us` bound the allocation (equal when it was never scheduled); `ended` names the witness of the
    end and is empty while the pod lives; `warm_us` is when it could first serve, if it ever could, and `leave_us` from
    when on it takes nothing new, because it is to be deleted, its node is lost, or it is over.
    """

    pod_uid: str
    identity: Identity
    allocation: Allocation
    accelerator: Accelerator | None
    node: str
    created_us: int
    start_us: int
    end_us: int
    warm_us: int | None
    leave_us: int
    ended: str
    segments: tuple[Segment, ...]
    flags: frozenset[Flag]

    @property
    def allocated_us(self) -> int:
        """Return the length of the allocation: the sum of all segments but `queued`."""
        return self.end_us - self.start_us


def fold(facts: Iterable[Fact], busy: Iterable[Span] = (), *, as_of_us: int) -> Lifetime | None:
    """Return the lifetime of the one pod that the facts are about, as known and clipped at `as_of_us`.

    `busy` are the spans in which it had at least one request in flight. None when the facts do not say whose pod it
    is, or it was created later.
    """
    seen = _Seen(facts)
    created = seen.first(Kind.CREATED)
    if created is None or created >= as_of_us or Kind.POD not in seen.by_kind:
        return None
    scheduled = seen.first(Kind.SCHEDULED)
    ended, end = seen.end(as_of_us)
    start = min(as_of_us if scheduled is None else scheduled, as_of_us)
    never = scheduled is None or scheduled >= as_of_us
    end = max(end, start) if not never else end
    lost = seen.lost_from()
    active: list[Span] = []
    runs: list[Run] = []
    base: list[Segment] = []
    warm = None
    if not never:
        if busy:
            active = union(clip(busy, start, end if lost is None else min(max(lost, start), end)))
        runs = seen.runs(active)
        base, warm = _base(seen, runs, start, end, lost)
    queue = Segment(created, end if never else start, Phase.QUEUED)
    segments = ([queue] if queue.length_us > 0 else []) + _overlaid(base, active)
    where = start if not never else end
    return Lifetime(
        pod_uid=seen.pod_uid,
        identity=decode_identity(min(seen.by_kind[Kind.POD])[1]),
        allocation=seen.allocation(),
        accelerator=seen.accelerator(),
        node=min(seen.by_kind[Kind.SCHEDULED])[1] if not never else "",
        created_us=created,
        start_us=where,
        end_us=end,
        warm_us=warm,
        leave_us=min([end, *(t for t in (seen.first(Kind.DELETE), lost) if t is not None)]),
        ended=ended,
        segments=tuple(segments),
        flags=_flags(seen, runs, ended, warm),
    )


_segment: Callable[[tuple[int, int, Phase]], Segment] = partial(tuple.__new__, Segment)
"""Make a segment of its values: what `Segment._make` does, without a call of Python."""
_BEST_ENDS = [kind.value for kind in sorted(END_RANK, key=END_RANK.__getitem__, reverse=True)]
_EARLIEST = Kind.GONE.value
"""The kind of end of which the earliest counts."""


class _Seen:
    """The facts of one pod, by kind, as (t_us, key); a fact that was given twice may be there twice."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        by_kind: dict[str, list[tuple[int, str]]] = {}
        self.pod_uid = ""
        for _, self.pod_uid, kind, key, t_us in facts:
            found = by_kind.get(kind)
            if found is None:
                by_kind[kind] = [(t_us, key)]
            else:
                found.append((t_us, key))
        self.by_kind = by_kind

    def times(self, kind: Kind) -> list[int]:
        found = self.by_kind.get(kind)
        return sorted({t_us for t_us, _ in found}) if found else []

    def first(self, kind: Kind) -> int | None:
        found = self.by_kind.get(kind)
        return min(found)[0] if found else None

    def end(self, as_of_us: int) -> tuple[str, int]:
        """Return the best witness of the end and its instant; ("", as_of) while there is none before that."""
        for kind in _BEST_ENDS:
            found = self.by_kind.get(kind)
            if found:
                moment = (min if kind == _EARLIEST else max)(found)[0]
                return (kind, moment) if moment <= as_of_us else ("", as_of_us)
        return "", as_of_us

    def lost_from(self) -> int | None:
        """Return the last proof of life of a vanished node, unless the node came back later."""
        found = self.by_kind.get(Kind.LOST)
        if not found:
            return None
        lost = max(found)[0]
        alive = max(self.times(Kind.ALIVE), default=None)
        return None if (alive is not None and alive > lost) or Kind.FINISHED in self.by_kind else lost

    def runs(self, active: Sequence[Span]) -> list[Run]:
        """Return the runs of the model's container; `active` are the spans with requests in flight."""
        started, exited = self._numbered(Kind.STARTED), self._numbered(Kind.EXITED)
        return runs_of(started, exited, self.times(Kind.READY), [span.start_us for span in active])

    def _numbered(self, kind: Kind) -> list[tuple[int, int]]:
        found = self.by_kind.get(kind)
        if not found:
            return []
        if len(found) == 1:
            ((t_us, key),) = found
            return [(t_us, run_number(key))]
        return sorted([(t_us, run_number(key)) for t_us, key in set(found)])

    def allocation(self) -> Allocation:
        found = self.by_kind.get(Kind.ALLOCATION)
        return decode_allocation(min(found)[1]) if found else Allocation()

    def accelerator(self) -> Accelerator | None:
        # Of most kinds a pod has no fact, or one.
        found = [decode_accelerator(key) for _, key in self.by_kind.get(Kind.ACCELERATOR, ())]
        return (
            found[0]
            if len(found) == 1
            else min(found, key=lambda each: (-each.source, each.class_name, each.parts, each.of), default=None)
        )


def _base(seen: _Seen, runs: Sequence[Run], start: int, end: int, lost: int | None) -> tuple[list[Segment], int | None]:
    """Return the phases without activity, and when the pod could first serve."""
    marks: list[tuple[int, Phase]] = [(start, Phase.PROVISIONING)]
    stuck = seen.first(Kind.BACKOFF)
    if stuck is not None and (not runs or stuck < runs[0].start_us):
        marks.append((stuck, Phase.BLOCKED))
    warm: int | None = None
    for run in runs:
        marks.append((run.start_us, Phase.LOADING))
        if run.ready_us is not None:
            marks.append((run.ready_us, Phase.COOLDOWN))
            warm = run.ready_us if warm is None else warm
        if run.exit_us is not None:
            marks.append((run.exit_us, Phase.BLOCKED))
    for moment, phase in ((seen.first(Kind.DELETE), Phase.DRAINING), (lost, Phase.LOST)):
        if moment is not None:
            marks = [mark for mark in marks if mark[0] < moment] + [(moment, phase)]
    if warm is not None:
        warm = min(max(warm, start), end)
    return _partition(marks, start, end), warm


def _partition(marks: Sequence[tuple[int, Phase]], start: int, end: int) -> list[Segment]:
    """Turn ascending marks, each holding until the next, into segments of [start, end) without gap or overlap."""
    segments: list[Segment] = []
    # The first mark holds from the start on.
    low, phase = start, marks[0][1]
    for moment, following in (*marks[1:], (end, Phase.LOST)):
        # A clock that is off may put a mark before its predecessor: it then holds from there on.
        high = moment if moment < end else end
        if high > low:
            if segments and segments[-1].phase is phase:
                low = segments.pop().start_us
            segments.append(_segment((low, high, phase)))
            low = high
        phase = following
    return segments


def _overlaid(base: Sequence[Segment], active: Sequence[Span]) -> list[Segment]:
    """Put activity over the base phases; both are ascending and disjoint, activity lies within the base."""
    if not active:
        return list(base)
    result: list[Segment] = []
    number = 0
    for segment in base:
        low = segment.start_us
        while number < len(active) and active[number].start_us < segment.end_us:
            span = active[number]
            if span.start_us > low:
                result.append(Segment(low, span.start_us, segment.phase))
            stop = min(span.end_us, segment.end_us)
            begin = max(span.start_us, segment.start_us)
            if result and result[-1].phase == Phase.ACTIVE and result[-1].end_us == begin:
                result[-1] = Segment(result[-1].start_us, stop, Phase.ACTIVE)
            else:
                result.append(Segment(begin, stop, Phase.ACTIVE))
            low = stop
            if span.end_us > segment.end_us:
                break
            number += 1
        if low < segment.end_us:
            result.append(Segment(low, segment.end_us, segment.phase))
    return result


def _flags(seen: _Seen, runs: Sequence[Run], ended: str, warm: int | None) -> frozenset[Flag]:
    flags: set[Flag] = set()
    if missed(runs):
        flags.add(Flag.RESTARTS_MISSED)
    if ended in (Kind.GONE, Kind.TERMINAL):
        flags.add(Flag.END_ESTIMATED)
    if warm is not None and Kind.READY not in seen.by_kind:
        flags.add(Flag.READY_ESTIMATED)
    return frozenset(flags)
