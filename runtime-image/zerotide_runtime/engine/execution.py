"""What the engine's thread needs of whatever computes: the quick path, or the whole engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from zerotide_runtime.engine.batch import Part
from zerotide_runtime.engine.kv import Cache, KVCache
from zerotide_runtime.engine.request import Choice, Sequence

PREFILL_TOKENS = 512  # of a processor's step


class OneByOne:
    """The prompts of an execution that computes them one after the other."""

    prefill_tokens = PREFILL_TOKENS
    prefill_rows = 1

    def prefill(self, parts: list[Part]) -> list[Choice | None]:
        """Compute parts of prompts; return the next token of each sequence of which no token is missing then."""
        return [self.prefill_one(part.row, part.sequence, part.limit) for part in parts]

    def prefill_one(self, row: int, sequence: Sequence, limit: int) -> Choice | None:
        """Compute up to `limit` tokens of one sequence; return its next token once none is missing."""
        raise NotImplementedError


class Execution(Protocol):
    """A loaded model and its cache."""

    @property
    def cache(self) -> Cache:
        """Where the running sequences' keys and values are."""
        ...

    def takes(self, sequence: Sequence) -> bool:
        """Tell whether a sequence can run here."""
        ...

    @property
    def prefill_tokens(self) -> int:
        """A step's share of prompts, so that running answers do not stall behind a long one."""
        ...

    @property
    def prefill_rows(self) -> int:
        """How many prompts `prefill` is given at once."""
        ...

    def prefill(self, parts: list[Part]) -> list[Choice | None]:
        """Compute parts of prompts; return the next token of each sequence of which no token is missing then."""
        ...

    def decode(self, running: list[Sequence]) -> list[Choice | None]:
        """Compute one token of every running sequence; one that is still in its prompt gets no next token."""
        ...


class Successor(Execution, Protocol):
    """An execution that can go on with what another has in its cache."""

    def adopt(self, cache: KVCache) -> None:
        """Take over a cache."""
        ...


class Succession:
    """The making of the execution that is to follow the first one, on a thread of its own."""

    def __init__(self, make: Callable[[], Successor]) -> None:
        self._make = make
        self._thread = threading.Thread(target=self._run, name="succession", daemon=True)
        self._made: Successor | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()

    def begin(self) -> None:
        """Start to make it, unless that has begun."""
        if self._thread.ident is None:
            self._thread.start()

    @property
    def begun(self) -> bool:
        """Tell whether it is being made."""
        return self._thread.ident is not None

    @property
    def done(self) -> bool:
        """Tell whether `take` returns at once."""
        return self._done.is_set()

    def take(self, cache: Cache) -> Execution:
        """Return the successor, with that cache, when it is made; raise what prevented it."""
        self.begin()
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._made is not None and isinstance(cache, KVCache)
        self._made.adopt(cache)
        return self._made

    def _run(self) -> None:
        try:
            self._made = self._make()
        except BaseException as error:  # whatever it is, the engine's thread waits for the outcome
            self._error = error
        self._done.set()
