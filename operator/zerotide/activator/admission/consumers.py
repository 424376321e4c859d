"""How many requests each consumer, and each key, has held or in flight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class Consumers:
    """Counts by name, each under a limit that comes with the request."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def enter(self, claims: Iterable[tuple[str, int]]) -> bool:
        """Count a request under every (name, limit), or under none where one is at its limit."""
        wanted = list(claims)
        if any(self._counts[name] >= limit for name, limit in wanted):
            return False
        for name, _ in wanted:
            self._counts[name] += 1
        return True

    def leave(self, names: Iterable[str]) -> None:
        """Count a request no longer."""
        for name in names:
            self._counts[name] -= 1
            if self._counts[name] <= 0:
                del self._counts[name]

    def count(self, name: str) -> int:
        """Return how many requests a name has."""
        return self._counts.get(name, 0)
