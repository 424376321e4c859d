"""When to look at what is held: items in slots of time, so that looking costs nothing for those that are not due."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

SLOT = 0.1
"""Seconds."""
NEVER = -1
_FARTHEST = 1e9
_FEW = 64


class Timers(Generic[T]):
    """Items by the time at which to look at them."""

    def __init__(self) -> None:
        self._slots: dict[int, set[T]] = {}
        self._order: list[int] = []

    def set(self, item: T, at: float) -> int:
        """Add an item and return its slot."""
        if at >= _FARTHEST:
            return NEVER
        slot = max(int(at / SLOT), 0)
        items = self._slots.get(slot)
        if items is None:
            items = self._slots[slot] = set()
            heappush(self._order, slot)
        items.add(item)
        return slot

    def cancel(self, item: T, slot: int) -> None:
        """Remove an item from its slot."""
        items = self._slots.get(slot)
        if items is None:
            return
        items.discard(item)
        if not items:
            del self._slots[slot]
            if len(self._order) > 2 * len(self._slots) + _FEW:
                self._order = sorted(self._slots)

    def due(self, until: float) -> list[T]:
        """Remove and return the items of all slots that begin before `until`."""
        items: list[T] = []
        while self._order and self._order[0] * SLOT < until:
            items.extend(self._slots.pop(heappop(self._order), ()))
        return items
