"""When a retry can succeed: what was measured, never a guess presented as knowledge."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

WINDOW = 20


class History:
    """The newest durations of something, in microseconds."""

    def __init__(self, window: int = WINDOW) -> None:
        self._durations: deque[int] = deque(maxlen=window)

    def add(self, duration_us: int) -> None:
        """Remember one."""
        self._durations.append(max(duration_us, 0))

    def remaining_us(self, elapsed_us: int, known: Sequence[int] = ()) -> int | None:
        """Return the p90 of what remains after `elapsed_us`, None without history.

        `known` are durations that others measured, for as long as there are none of our own.
        """
        durations = self._durations or known
        return remaining(durations, elapsed_us) if durations else None


def remaining(durations: Iterable[int], elapsed: int) -> int:
    """Return the p90 of what remains, among those that took longer than `elapsed`; 0 if none did."""
    longer = sorted(duration - elapsed for duration in durations if duration > elapsed)
    return longer[math.ceil(len(longer) * 0.9) - 1] if longer else 0
