"""What a share of values does not exceed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T", int, float)


def nearest_rank(ordered: Sequence[T], percent: int) -> T:
    """Return the smallest value that at least `percent` of the values do not exceed, of some in ascending order."""
    return ordered[max(-(-len(ordered) * percent // 100), 1) - 1]
