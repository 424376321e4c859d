"""What one request has reserved, of every budget that binds it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from zerotide.activator.admission.naming import Name
from zerotide.activator.quota.bounds import Bound

log = logging.getLogger(__name__)

STEP = 1024
"""Tokens by which the answer of a stream is reserved ahead."""


class Lender(Protocol):
    """Where tokens are reserved."""

    def take(self, name: Name, tokens: int) -> bool:
        """Reserve what is at hand; False where it is not."""

    async def borrow(self, name: Name, tokens: int) -> None:
        """Reserve what may have to be asked for. Raises budget_exhausted or ledger_unavailable."""

    def settle(self, name: Name, reserved: int, used: int) -> None:
        """End a reservation, of which so much was used that the usage log has."""


class Hold:
    """A request's reservation: of its prompt, and of its answer or the next step of it."""

    __slots__ = ("_bound", "_lender", "_names", "answer", "input", "used")

    def __init__(self, lender: Lender, names: tuple[Name, ...], bound: Bound) -> None:
        self._lender, self._names, self._bound = lender, names, bound
        self.input = 0
        self.answer = 0
        """Tokens of the answer that are reserved."""
        self.used = 0
        """What its attempts used as the usage log has it."""

    @property
    def choices(self) -> int:
        """Return how many answers are made at once."""
        return self._bound.choices

    @property
    def whole(self) -> bool:
        """Tell whether all is reserved that the answer can come to."""
        return self._bound.output is not None and self.answer >= self._bound.output

    async def begin(self, stream: bool) -> None:
        """Reserve before a request is sent: all of it, of a stream a first step. Raises as `Lender.borrow`."""
        most = self._bound.output
        answer = STEP if most is None else min(STEP, most) if stream else most
        await self._borrow(self._bound.input + answer)
        self.input, self.answer = self._bound.input, answer

    def grow(self, least: int) -> bool:
        """Reserve a step more, `least` at least, where that is at hand."""
        step = self._step(least)
        for done, name in enumerate(self._names):
            if not self._lender.take(name, step):
                self._give_back(self._names[:done], step)
                return False
        self.answer += step
        return True

    async def ask(self, least: int) -> None:
        """Reserve a step more, `least` at least, by asking for it. Raises as `Lender.borrow`."""
        step, names = self._step(least), self._names
        await self._borrow(step)
        if not self._names:
            # It ended meanwhile.
            self._give_back(names, step)
            return
        self.answer += step

    def end(self) -> None:
        """Give back what was not used."""
        reserved, self.input, self.answer = self.input + self.answer, 0, 0
        if self.used > reserved:
            log.error("a request used more than its bound", extra={"used": self.used, "reserved": reserved})
        for name in self._names:
            self._lender.settle(name, reserved, self.used)
        self._names = ()

    def _step(self, least: int) -> int:
        step = max(STEP, least)
        return step if self._bound.output is None else min(step, self._bound.output - self.answer)

    async def _borrow(self, tokens: int) -> None:
        done: list[Name] = []
        try:
            for name in self._names:
                await self._lender.borrow(name, tokens)
                done.append(name)
        except BaseException:
            self._give_back(done, tokens)
            raise

    def _give_back(self, names: Iterable[Name], tokens: int) -> None:
        for name in names:
            self._lender.settle(name, tokens, 0)
