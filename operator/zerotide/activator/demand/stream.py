"""One listener's stream: a snapshot, then what changed, and twice a second how far it is complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from zerotide.activator.demand.tracker import MAX_WAKES, Tracker
from zerotide.api.demand import Delta, Report, Snapshot, Wake

COALESCE = 0.1
"""Seconds for which changes that begin or end nothing are gathered."""
REPORT = 0.5


class Stream:
    """Yield the lines for one listener; changes that begin or end a demand go out at once."""

    def __init__(self, tracker: Tracker, activator: str, started_us: int, now_us: Callable[[], int]) -> None:
        self._tracker, self._activator, self._started_us, self._now_us = tracker, activator, started_us, now_us
        self._changed: set[str] = set()
        self._wakes: list[Wake] = []
        self._stir = asyncio.Event()
        self._urgent = asyncio.Event()

    def changed(self, endpoint: str, urgent: bool) -> None:
        """Note that the demand of an endpoint changed."""
        self._changed.add(endpoint)
        self._stir.set()
        if urgent:
            self._urgent.set()

    def woke(self, wake: Wake) -> None:
        """Note that a wake was completed."""
        if len(self._wakes) < MAX_WAKES:
            self._wakes.append(wake)
        self._stir.set()
        self._urgent.set()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield bytes of whole lines, until nobody asks for more."""
        loop = asyncio.get_running_loop()
        self._tracker.follow(self)
        try:
            yield self._snapshot()
            report_at = _next_report(loop.time())
            while True:
                await self._something(report_at)
                lines = self._gather()
                if loop.time() >= report_at:
                    report_at = _next_report(loop.time())
                    lines.append(Report(at_us=self._now_us()).encode())
                if lines:
                    yield b"".join(lines)
        finally:
            self._tracker.leave(self)

    async def _something(self, report_at: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(report_at):
                await self._stir.wait()
            async with asyncio.timeout_at(min(loop.time() + COALESCE, report_at)):
                await self._urgent.wait()
        except TimeoutError:
            pass

    def _snapshot(self) -> bytes:
        snapshot = Snapshot(
            activator=self._activator,
            started_at_us=self._started_us,
            at_us=self._now_us(),
            demands=tuple(self._tracker.demands()),
        )
        return snapshot.encode()

    def _gather(self) -> list[bytes]:
        self._stir.clear()
        self._urgent.clear()
        changed, self._changed = self._changed, set()
        wakes, self._wakes = self._wakes, []
        at_us = self._now_us()
        demands = (self._tracker.demand(endpoint) for endpoint in sorted(changed))
        lines = [Delta(at_us=at_us, demand=demand).encode() for demand in demands if demand is not None]
        return lines + [wake.encode() for wake in wakes]


def _next_report(now: float) -> float:
    """Return the next time to report; it is the same in all processes of a machine, so that they report together."""
    return (now // REPORT + 1) * REPORT
