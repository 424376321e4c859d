"""A stream whose tokens are reserved a step ahead: what passes is always reserved, what is not ends it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from zerotide.activator.quota.hold import STEP, Hold
from zerotide.activator.quota.meter import Meter
from zerotide.activator.traffic.relay import Relay
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.usage.tap import LONGEST_EVENT, Events, last_end, split_events
from zerotide.api.errors import Rejection


class Metered(Relay):
    """Pass on what is reserved, and keep the rest until more is."""

    __slots__ = ("_asking", "_complete", "_count", "_hold", "_kept", "_meter", "_over", "_rest")

    def __init__(self, visit: Visit, on_first: Callable[[], None], hold: Hold) -> None:
        super().__init__(visit, on_first)
        self._hold = hold
        self._meter = Meter(hold.choices)
        self._kept: deque[bytes] = deque()
        self._rest = b""
        self._count = 0
        """Tokens that have passed, at most."""
        self._complete = False
        self._asking: asyncio.Task[None] | None = None
        self._over: Rejection | None = None
        """Why no more is reserved."""

    def data(self, data: bytes) -> None:
        """Pass on what is reserved."""
        if not isinstance(self._tap, Events):
            # No stream after all: its bytes bound it.
            self._kept.append(data)
        else:
            whole = self._rest + data
            cut = last_end(whole) if len(whole) <= LONGEST_EVENT else len(whole)
            self._rest = whole[cut:]
            self._kept.extend(split_events(whole[:cut]))
        self._pass()

    def end(self) -> None:
        """End the answer, once all of it has passed."""
        self.release()
        self._complete = True
        if self._rest:
            self._kept.append(self._rest)
            self._rest = b""
        self._pass()

    def close(self) -> None:
        """Ask for nothing more."""
        self._kept.clear()
        if self._asking is not None:
            self._asking.cancel()

    def _pass(self) -> None:
        events = isinstance(self._tap, Events)
        ready: list[bytes] = []
        while self._kept:
            each = self._kept[0]
            count = self._meter.after(each) if events else self._count + len(each)
            if not self._has(count):
                break
            self._meter.passed(each)
            self._count = count
            ready.append(self._kept.popleft())
        if ready:
            super().data(b"".join(ready))
        if self._kept and self._over is not None:
            if not self.done.done():
                self.done.set_exception(self._over)
        elif self._complete and not self._kept:
            self._complete = False
            super().end()

    def _has(self, count: int) -> bool:
        """Tell whether so many tokens are reserved; ask for the next step in good time."""
        hold = self._hold
        if not hold.whole and count > hold.answer - STEP // 2 and self._asking is None and self._over is None:
            least = count - hold.answer
            if not hold.grow(least):
                self._asking = asyncio.get_running_loop().create_task(self._ask(least))
        return hold.whole or count <= hold.answer

    async def _ask(self, least: int) -> None:
        try:
            await self._hold.ask(least)
        except Rejection as rejection:
            self._over = rejection
        self._asking = None
        self._pass()
