"""Keep what was made last: what costs a moment to make again need not be kept for thousands that sleep."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values that were put or got last, `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[K, V] = {}

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return a value, which counts as new again, or None."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value; the oldest goes where there are too many."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]

    def pop(self, key: K) -> None:
        """Forget a value, if it is there."""
        self._values.pop(key, None)
