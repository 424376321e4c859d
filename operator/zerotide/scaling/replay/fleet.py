"""Run one endpoint's requests on as many replicas as its bounds allow, and keep what each of them waited.

With one replica that takes any number at once this is `simulate`. Replicas here are alike and share a line: the first
one comes alone, further ones as soon as `target` asks for them, and they leave when for `down_s` fewer were wanted; the
last ones leave by the rule. Replicas that are kept are there from the beginning.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

from zerotide.scaling.ranks import nearest_rank
from zerotide.scaling.replay.simulate import Rule
from zerotide.scaling.replay.trace import Arrivals


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many replicas there may be, and how many requests one is to take and takes at once (0: any number)."""

    kept: int = 0
    most: int = 1
    target: int = 8
    limit: int = 0
    down_s: float = 60.0

    def wanted(self, requests: int) -> int:
        """Return how many replicas so many requests ask for."""
        return min(max(-(-requests // self.target), self.kept), self.most)


@dataclass(frozen=True, slots=True)
class Served:
    """Seconds of replicas, starts of them, requests that came while none served, and what each request waited."""

    replica_s: float
    starts: int
    cold: int
    waits: tuple[float, ...]

    def wait_s(self, percent: int) -> float:
        """Return what so many of a hundred requests waited at most, by nearest rank; 0 without requests."""
        ordered = sorted(self.waits)
        return nearest_rank(ordered, percent) if ordered else 0.0

    @property
    def waited_s(self) -> float:
        """Return what all requests together waited."""
        return sum(self.waits)


def serve(arrivals: Arrivals, end_s: float, load_s: float, bounds: Bounds, rule: Rule) -> Served:
    """Return what becomes of the requests, and of replicas until `end_s`, under bounds and a rule to sleep by."""
    fleet = _Fleet(arrivals, load_s, bounds, rule)
    while (at_s := fleet.next_s()) <= end_s or fleet.works:
        fleet.go(at_s)
    fleet.pass_to(max(end_s, fleet.now_s))
    return Served(fleet.replica_s, fleet.starts, fleet.cold, tuple(fleet.waits))


class _Fleet:
    """Replicas, the line before them, and what happens next."""

    def __init__(self, arrivals: Arrivals, load_s: float, bounds: Bounds, rule: Rule) -> None:
        self.arrivals, self.load_s, self.bounds, self.rule = arrivals, load_s, bounds, rule
        self.now_s, self.replica_s, self.starts, self.cold = 0.0, 0.0, 0, 0
        self.waits: list[float] = []
        self._ready, self._starting = bounds.kept, deque[float]()
        self._line, self._running, self._index = deque[int](), list[float](), 0
        self._began_s = 0.0
        self._quiet: tuple[float, float] | None = None
        """Since when nothing is asked, and how long it stays awake then."""
        self._fewer: tuple[float, int] | None = None
        """Since when fewer replicas are wanted, and the most that were since."""

    @property
    def works(self) -> bool:
        """Tell whether a request waits, is served or has yet to come."""
        return bool(self._line or self._running) or self._index < len(self.arrivals.times)

    def next_s(self) -> float:
        """Return when something happens next."""
        times = self.arrivals.times
        at_s = times[self._index] if self._index < len(times) else math.inf
        if self._starting:
            at_s = min(at_s, self._starting[0])
        if self._running:
            at_s = min(at_s, self._running[0])
        if self._fewer is not None:
            at_s = min(at_s, self._fewer[0] + self.bounds.down_s)
        return min(at_s, self._sleeps_s())

    def go(self, at_s: float) -> None:
        """Take in all that happens at an instant."""
        sleeps_s = self._sleeps_s()
        if at_s >= sleeps_s:
            self.pass_to(sleeps_s)
            self._ready, self._fewer = 0, None
            self._starting.clear()
        self.pass_to(at_s)
        while self._running and self._running[0] <= at_s:
            heappop(self._running)
        self._come(at_s)
        self._become_ready(at_s)
        self._admit(at_s)
        self._scale(at_s)
        if self._quiet is None and self._ready and not self._line and not self._running:
            self._quiet = (at_s, self.rule.timeout_s(self._began_s, at_s))

    def pass_to(self, at_s: float) -> None:
        """Let time pass: every replica that serves or starts is paid for."""
        self.replica_s += (self._ready + len(self._starting)) * (at_s - self.now_s)
        self.now_s = at_s

    def _sleeps_s(self) -> float:
        """Return when it falls asleep, never where a request comes before that."""
        if self._quiet is None or self.bounds.kept or not self._ready:
            return math.inf
        (since_s, timeout_s), times = self._quiet, self.arrivals.times
        comes_s = times[self._index] if self._index < len(times) else math.inf
        return min(since_s + timeout_s, comes_s) if timeout_s < comes_s - since_s else math.inf

    def _come(self, at_s: float) -> None:
        times = self.arrivals.times
        while self._index < len(times) and times[self._index] <= at_s:
            if self._quiet is not None:
                self.rule.silence(at_s - self._quiet[0])
                self._quiet = None
            if not self._line and not self._running:
                self._began_s = at_s
            self._line.append(self._index)
            self.waits.append(0.0)
            self.cold += not self._ready
            self._index += 1

    def _become_ready(self, at_s: float) -> None:
        while self._starting and self._starting[0] <= at_s:
            self._starting.popleft()
            if not self._ready:
                self._began_s = at_s
                self.rule.woke(sum(at_s - self.arrivals.times[index] for index in self._line))
            self._ready += 1

    def _admit(self, at_s: float) -> None:
        room = self._ready * self.bounds.limit if self.bounds.limit else math.inf
        while self._line and self._ready and len(self._running) < room:
            index = self._line.popleft()
            self.waits[index] = at_s - self.arrivals.times[index]
            heappush(self._running, at_s + self.arrivals.services[index])

    def _scale(self, at_s: float) -> None:
        there = self._ready + len(self._starting)
        wanted = self.bounds.wanted(len(self._line) + len(self._running))
        if not self._ready:
            # What has gathered before a cold start says how long it takes, not how much comes.
            wanted = min(wanted, 1)
        for _ in range(there, wanted):
            self._starting.append(at_s + self.load_s)
            self.starts += 1
        least = max(wanted, self.bounds.kept, 1)
        if there <= least:
            self._fewer = None
            return
        since_s, most = self._fewer or (at_s, least)
        most = max(most, least)
        self._fewer = since_s, most
        if at_s >= since_s + self.bounds.down_s:
            busy = -(-len(self._running) // self.bounds.limit) if self.bounds.limit else 0
            self._ready = min(self._ready, max(most - len(self._starting), busy, self.bounds.kept, 1))
            self._fewer = (at_s, least) if most > least and not self._starting else None
