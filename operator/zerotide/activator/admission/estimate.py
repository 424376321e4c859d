"""When a retry can succeed: what was measured, never a guess presented as knowledge."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

WINDOW = 20


class History:
    """The newest durations of something, in microseconds."""

    def __init__(self, window: int = WINDOW) -> None:
        self._durations: deque[int] = deque(maxlen=window)

    def add(self, duration_us: int) -> None:
        """Remember one."""
        self._durations.append(max(duration_us, 0))

    def remaining_us(self, elapsed_us: int, known_p90_us: int | None = None) -> int | None:
        """Return the p90 of what remains after `elapsed_us`, None without history.

        `known_p90_us` is somebody else's measurement, for as long as there is none of our own.
        """
        if self._durations:
            return remaining(self._durations, elapsed_us)
        return None if known_p90_us is None else max(known_p90_us - elapsed_us, 0)


def remaining(durations: Sequence[int] | deque[int], elapsed: int) -> int:
    """Return the p90 of what remains, among those that took longer than `elapsed`; 0 if none did."""
    longer = sorted(duration - elapsed for duration in durations if duration > elapsed)
    return longer[math.ceil(len(longer) * 0.9) - 1] if longer else 0
