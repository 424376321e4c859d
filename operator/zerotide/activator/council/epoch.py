"""Times that members tell each other: the monotonic clock's seconds in microseconds since the epoch, and back."""

from __future__ import annotations

from collections.abc import Callable

READINGS = 5


class Epoch:
    """Convert by one difference of the two clocks, taken once.

    Reading both for each time would put it off by whatever passed between the readings, and with it the order of
    requests that came to different members one after the other.
    """

    def __init__(self, now: Callable[[], float], now_us: Callable[[], int]) -> None:
        self._ahead_us = min(_reading(now, now_us) for _ in range(READINGS))[1]

    def of(self, at: float) -> int:
        """Return when a moment of the monotonic clock is, in microseconds since the epoch."""
        return self._ahead_us + round(at * 1e6)

    def at(self, us: int) -> float:
        """Return a moment of the epoch by the monotonic clock, in seconds."""
        return (us - self._ahead_us) / 1e6


def _reading(now: Callable[[], float], now_us: Callable[[], int]) -> tuple[float, int]:
    """Return for how long both clocks were read, and by how much the epoch's is ahead."""
    before, us, after = now(), now_us(), now()
    return after - before, us - round((before + after) / 2 * 1e6)
