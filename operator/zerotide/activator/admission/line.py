"""Who is next: consumers take turns, and each consumer's requests go in the order in which they came.

So whoever comes with one request waits for at most one of every other consumer, however many those brought.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from zerotide.activator.admission.tickets import Ticket, Turn

R = TypeVar("R")

_FEW = 32


class _Lane(Generic[R]):
    """One consumer's tickets. Those that left stay in the heap until they come up, or are more than the others."""

    __slots__ = ("heap", "waiting")

    def __init__(self) -> None:
        self.heap: list[Ticket[R]] = []
        self.waiting = 0

    def head(self) -> Ticket[R]:
        """Return the first that waits; there is one."""
        heap = self.heap
        while heap[0].turn is not Turn.HELD:
            heappop(heap)
        return heap[0]

    def drop(self, ticket: Ticket[R]) -> None:
        """Forget a ticket that left and comes back: it would be there twice."""
        if ticket in self.heap:
            self.heap.remove(ticket)
            heapify(self.heap)

    def tidy(self) -> None:
        """Forget those that left, where they are many."""
        if len(self.heap) > 2 * self.waiting + _FEW:
            self.heap = [ticket for ticket in self.heap if ticket.turn is Turn.HELD]
            heapify(self.heap)


class Line(Generic[R]):
    """The tickets of one endpoint and class that wait; every operation takes logarithmic time at most."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, _Lane[R]] = OrderedDict()
        self.waiting = 0

    def __iter__(self) -> Iterator[Ticket[R]]:
        for lane in self._lanes.values():
            yield from sorted(ticket for ticket in lane.heap if ticket.turn is Turn.HELD)

    def join(self, ticket: Ticket[R], *, again: bool = False) -> None:
        """Add a ticket; the consumer of one that comes `again` is next unless it has its turn anyway."""
        lane = self._lanes.get(ticket.consumer)
        if lane is None:
            lane = self._lanes[ticket.consumer] = _Lane()
            if again:
                self._lanes.move_to_end(ticket.consumer, last=False)
        elif again:
            lane.drop(ticket)
        heappush(lane.heap, ticket)
        lane.waiting += 1
        self.waiting += 1

    def head(self) -> Ticket[R] | None:
        """Return whose turn it is, None where nobody waits."""
        for lane in self._lanes.values():
            return lane.head()
        return None

    def serve(self) -> None:
        """Remove the head, which waits no longer: it is the next consumer's turn."""
        consumer, lane = next(iter(self._lanes.items()))
        heappop(lane.heap)
        self._shrink(consumer, lane)
        if lane.waiting:
            self._lanes.move_to_end(consumer)

    def leave(self, ticket: Ticket[R]) -> None:
        """Remove a ticket wherever it stands; it waits no longer by then."""
        lane = self._lanes[ticket.consumer]
        self._shrink(ticket.consumer, lane)
        lane.tidy()

    def _shrink(self, consumer: str, lane: _Lane[R]) -> None:
        self.waiting -= 1
        lane.waiting -= 1
        if not lane.waiting:
            del self._lanes[consumer]
