"""What one request has reserved, of every budget that binds it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from zerotide.activator.admission.naming import Name
from zerotide.activator.quota.bounds import Bound
from zerotide.activator.quota.slices import Use

log = logging.getLogger(__name__)

STEP = 1024
"""Tokens by which the answer of a stream is reserved ahead."""


class Lender(Protocol):
    """Where tokens, or what they cost, are reserved."""

    def take(self, name: Name, use: Use) -> int | None:
        """Reserve what is at hand, and return as how much; None where it is not."""

    async def borrow(self, name: Name, use: Use) -> int:
        """Reserve what may have to be asked for, and return as how much.

        Raises budget_exhausted or ledger_unavailable.
        """

    def settle(self, name: Name, reserved: int, use: Use) -> None:
        """End a reservation, of which so much was used that the usage log has."""


_NOTHING = Use(0, 0)


class Hold:
    """A request's reservation: of itself, its prompt, and its answer or the next step of that."""

    __slots__ = ("_bound", "_lender", "_reserved", "answer", "input", "used")

    def __init__(self, lender: Lender, names: tuple[Name, ...], bound: Bound) -> None:
        self._lender, self._bound = lender, bound
        self._reserved = dict.fromkeys(names, 0)
        """As how much, of each budget."""
        self.input = 0
        self.answer = 0
        """Tokens of the answer that are reserved."""
        self.used = _NOTHING
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
        await self._borrow(Use(self._bound.input, answer, 1))
        self.input, self.answer = self._bound.input, answer

    def grow(self, least: int) -> bool:
        """Reserve a step more, `least` at least, where that is at hand."""
        step, done = self._step(least), dict[Name, int]()
        for name in self._reserved:
            amount = self._lender.take(name, Use(0, step))
            if amount is None:
                self._give_back(done)
                return False
            done[name] = amount
        self._add(done)
        self.answer += step
        return True

    async def ask(self, least: int) -> None:
        """Reserve a step more, `least` at least, by asking for it. Raises as `Lender.borrow`."""
        step = self._step(least)
        if await self._borrow(Use(0, step)):
            self.answer += step

    def end(self) -> None:
        """Give back what was not used."""
        bound, used = self.input + self.answer, self.used.input + self.used.output
        self.input = self.answer = 0
        if used > bound:
            log.error("a request used more than its bound", extra={"used": used, "reserved": bound})
        for name, reserved in self._reserved.items():
            self._lender.settle(name, reserved, self.used)
        self._reserved = {}

    def _step(self, least: int) -> int:
        step = max(STEP, least)
        return step if self._bound.output is None else min(step, self._bound.output - self.answer)

    async def _borrow(self, use: Use) -> bool:
        """Reserve of every budget; False, and nothing reserved, where the request ended meanwhile."""
        done = dict[Name, int]()
        try:
            for name in tuple(self._reserved):
                done[name] = await self._lender.borrow(name, use)
        except BaseException:
            self._give_back(done)
            raise
        if not self._reserved:
            self._give_back(done)
            return False
        self._add(done)
        return True

    def _add(self, amounts: Mapping[Name, int]) -> None:
        for name, amount in amounts.items():
            self._reserved[name] += amount

    def _give_back(self, amounts: Mapping[Name, int]) -> None:
        for name, amount in amounts.items():
            self._lender.settle(name, amount, _NOTHING)
