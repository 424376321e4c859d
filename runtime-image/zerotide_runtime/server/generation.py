"""A request's generations, seen from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.request import Event, FailureEvent, Sequence, TokenEvent
from zerotide_runtime.errors import GenerationFailed

MakeSequence = Callable[[int, Callable[[Event], None]], Sequence]


class Generation:
    """One or more answers that grow side by side; iterate over (index, event) until all are finished."""

    def __init__(self, engine: Engine, make: MakeSequence, count: int) -> None:
        self._engine = engine
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._peeked: tuple[int, Event] | None = None
        self._open = count
        loop = asyncio.get_running_loop()

        def sink(index: int, event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        self.sequences = [make(index, partial(sink, index)) for index in range(count)]
        for sequence in self.sequences:
            engine.submit(sequence)

    def cancel(self) -> bool:
        """Give up what is unfinished; return whether there was anything."""
        unfinished, self._open = self._open > 0, 0
        if unfinished:
            for sequence in self.sequences:
                self._engine.cancel(sequence)
        return unfinished

    async def begun(self, patience: float) -> bool:
        """Wait for the first token, at most `patience` seconds; raise GenerationFailed if there will be none."""
        if self._peeked is None:
            self._peeked = await self._next(patience)
        if self._peeked is None:
            return False
        self._check(self._peeked[1])
        return True

    async def events(self, pause: float) -> AsyncIterator[tuple[int, TokenEvent] | None]:
        """Yield tokens as they come, and None after each `pause` seconds without one; raise GenerationFailed."""
        while self._open:
            item, self._peeked = self._peeked or await self._next(pause), None
            if item is None:
                yield None
                continue
            index, event = item
            token = self._check(event)
            if token.finish is not None:
                self._open -= 1
            yield index, token

    async def _next(self, patience: float) -> tuple[int, Event] | None:
        """Return the next event, or None after `patience` seconds without one."""
        # Not wait_for: in Python 3.11 it forgets a cancellation that comes together with a result.
        try:
            async with asyncio.timeout(patience):
                return await self._events.get()
        except TimeoutError:
            return None

    async def collect(self) -> list[list[TokenEvent]]:
        """Return all tokens of all answers."""
        answers: list[list[TokenEvent]] = [[] for _ in self.sequences]
        async for item in self.events(pause=3600):
            if item is not None:
                answers[item[0]].append(item[1])
        return answers

    @staticmethod
    def _check(event: Event) -> TokenEvent:
        if isinstance(event, FailureEvent):
            raise GenerationFailed(event.message)
        return event
