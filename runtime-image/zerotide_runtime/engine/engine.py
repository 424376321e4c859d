"""The engine's thread: load the model, then step the batch for as long as there is work.

Requests may be submitted at once, before torch is even imported; they are the first to run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from zerotide_runtime.engine.batch import Batch, Move, Part
from zerotide_runtime.engine.request import Choice, FailureEvent, Sequence

if TYPE_CHECKING:
    from zerotide_runtime.engine.execution import Execution, Succession
    from zerotide_runtime.engine.kv import Cache

log = logging.getLogger(__name__)

CALM_SECONDS = 1.0  # without work, after which the quick path's successor is made while nobody is delayed by it


class Observer(Protocol):
    """Who is told what the engine does; called on the engine's thread."""

    def loaded(self) -> None:
        """The model is ready to run."""

    def failed(self, error: BaseException) -> None:
        """The model could not be loaded; the thread ends."""

    def slept(self, level: int) -> None:
        """The engine sleeps; `loaded` tells when it is awake again."""

    def succeeded(self) -> None:
        """The quick path has given way to the whole engine."""

    def stepped(self, kind: str, rows: int, tokens: int, seconds: float) -> None:
        """One forward pass of `kind` prefill or decode brought `tokens` new tokens to `rows` sequences."""

    def told(self, kind: str, seconds: float) -> None:
        """The tokens of a pass of `kind` have become text and gone to whoever waits for them."""

    def broke(self, kind: str) -> None:
        """A forward pass of `kind` failed, and its sequences with it."""


class Reserve:
    """Ask a cache for room; memory that cannot be had is room that is not there, and remembered."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.error: Exception | None = None

    def __call__(self, rows: int, positions: int) -> bool:
        """Make room for `rows` sequences of up to `positions` tokens; return False where there is none."""
        try:
            return self._cache.reserve(rows, positions)
        except (MemoryError, RuntimeError) as error:  # torch's own class is of the latter kind
            self.error = error
            return False


class Engine:
    """Generate for many sequences at once on a thread of its own."""

    def __init__(
        self,
        load: Callable[[], tuple[Execution, Succession | None]],
        max_rows: int,
        observer: Observer,
        clock: Callable[[], float],
        release: Callable[[int], None] = lambda level: None,
    ) -> None:
        self._load = load
        self._succession: Succession | None = None
        self._observer = observer
        self._clock = clock
        self._release = release
        self._level = 0  # at which it is to sleep
        self._sleeping = False
        self._batch = Batch(max_rows)
        self._changed = threading.Condition()
        self._stopping = False
        self._submitted = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start loading."""
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; its sink is called on the engine's thread."""
        with self._changed:
            self._submitted += 1
            sequence.number = self._submitted
            self._batch.waiting.append(sequence)
            self._changed.notify()

    def cancel(self, sequence: Sequence) -> None:
        """Forget a sequence; its row is free at the next step."""
        with self._changed:
            sequence.cancelled = True
            self._changed.notify()

    def stop(self) -> None:
        """End the thread after its current step, whatever is unfinished."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def sleep(self, level: int) -> None:
        """Sleep once nothing runs: without a cache at level 1, and without weights at level 2."""
        with self._changed:
            self._level = max(level, self._level)
            self._changed.notify()

    def wake_up(self) -> None:
        """Run again what waits."""
        with self._changed:
            awake, self._level = not self._sleeping, 0
            self._changed.notify()
        if awake:
            self._observer.loaded()

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, at most `timeout` seconds."""
        self._thread.join(timeout)

    def queue_sizes(self) -> tuple[int, int]:
        """Return how many sequences wait and how many run."""
        return len(self._batch.waiting), len(self._batch.running)

    def committed_tokens(self) -> int:
        """Return how many tokens the running sequences may come to, prompts and answers together."""
        return sum(len(sequence.prompt) + sequence.max_new_tokens for sequence in list(self._batch.running))

    def _run(self) -> None:
        try:
            while not self._stopping:
                # Named nowhere here, so that nothing of it outlives its service.
                self._serve(self._loaded())
                self._sleep()
        except BaseException as error:  # whatever it is, someone waits for the outcome
            self._observer.failed(error)

    def _loaded(self) -> Execution:
        runner, self._succession = self._load()
        self._observer.loaded()
        return runner

    def _serve(self, runner: Execution) -> None:
        """Step until it is time to sleep or to end."""
        while self._wait(runner):
            runner = self._succeeded(runner)
            self._admit(runner)
            self._prefill(runner)
            self._decode(runner)

    def _sleep(self) -> None:
        """Give memory back until someone wakes the engine."""
        self._succession = None
        depth = 0
        with self._changed:
            while self._level and not self._stopping:
                self._sleeping = True
                if self._level > depth:
                    depth = self._level
                    self._changed.release()  # it may take a while
                    try:
                        self._release(depth)
                        self._observer.slept(depth)
                    finally:
                        self._changed.acquire()
                else:
                    self._changed.wait()
            self._sleeping = False

    def _wait(self, runner: Execution) -> bool:
        """Sleep until there is work; return False when it is time to end."""
        with self._changed:
            self._drop_cancelled(runner)
            if not (self._batch.running or self._batch.waiting):
                runner.cache.clear()
            while not (self._stopping or self._level or self._batch.running or self._batch.waiting):
                calm = None if self._succession is None or self._succession.begun else CALM_SECONDS
                if not self._changed.wait(calm) and self._succession is not None:
                    self._succession.begin()
            return not (self._stopping or (self._level and not self._batch.running))

    def _succeeded(self, runner: Execution) -> Execution:
        """Return who is to compute from now on: the successor once it is there, or cannot be done without."""
        succession = self._succession
        if succession is None:
            return runner
        with self._changed:
            in_hand = [*self._batch.running, *self._batch.waiting]
        beyond = any(not runner.takes(sequence) for sequence in in_hand)
        if len(in_hand) > 1:
            succession.begin()
        if not (beyond or succession.done):
            return runner
        runner, self._succession = succession.take(runner.cache), None
        self._observer.succeeded()
        return runner

    def _drop_cancelled(self, runner: Execution) -> None:
        for sequence in [s for s in self._batch.waiting if s.cancelled]:
            self._batch.waiting.remove(sequence)
        for sequence in [s for s in self._batch.running if s.cancelled]:
            self._leave(runner, sequence)

    def _leave(self, runner: Execution, sequence: Sequence) -> None:
        self._move(runner, self._batch.remove(sequence))

    @staticmethod
    def _move(runner: Execution, move: Move | None) -> None:
        if move is not None:
            runner.cache.move(move.source, move.target, move.length)

    def _admit(self, runner: Execution) -> None:
        """Make room for the running, at the expense of the youngest if need be, then let in who fits."""
        reserve = Reserve(runner.cache)
        with self._changed:
            while not reserve(len(self._batch.running), self._batch.positions):
                self._move(runner, self._batch.preempt())
            if self._level:
                return  # who waits, waits until it wakes up
            for sequence in self._batch.admit(reserve):
                sequence.started = sequence.started or self._clock()
            hopeless = None
            if reserve.error is not None and not self._batch.running and self._batch.waiting:
                hopeless = self._batch.waiting.popleft()
        if hopeless is not None:
            log.error("no memory for a sequence of %d tokens: %s", hopeless.length, reserve.error)
            runner.cache.clear()
            hopeless.sink(FailureEvent(f"out of memory for {hopeless.length} tokens; ask for less, or raise the limit"))

    def _prefill(self, runner: Execution) -> None:
        budget, most = runner.prefill_tokens, runner.prefill_rows
        while budget > 0 and (parts := self._prompts(runner, budget, most)):
            sequences, started = [part.sequence for part in parts], self._clock()
            before = sum(sequence.cached for sequence in sequences)
            try:
                choices = runner.prefill(parts)
            except Exception as error:
                if len(parts) > 1:  # memory may do for one at a time, and else the others are not to blame
                    log.warning("%d prompts failed together, and are tried one by one: %s", len(parts), error)
                    most = 1
                    continue
                self._fail(runner, "prefill", sequences, error)
                return
            complete = sum(choice is not None for choice in choices)
            self._observer.stepped("prefill", len(parts), complete, self._clock() - started)
            budget -= sum(sequence.cached for sequence in sequences) - before
            self._accept(runner, "prefill", list(zip(sequences, choices, strict=True)))

    def _prompts(self, runner: Execution, budget: int, most: int) -> list[Part]:
        """Return what to compute of prompts, after what is there of their beginnings has been taken from there."""
        parts = self._batch.prompts(budget, most)
        while [part for part in parts if self._recalled(runner, part)]:
            parts = self._batch.prompts(budget, most)
        return parts

    def _recalled(self, runner: Execution, part: Part) -> bool:
        sequence = part.sequence
        if sequence.cached or sequence.salt is None or sequence.report.prompt:  # whose odds can only be computed
            return False
        # Two tokens remain to be computed, so that it stays a prompt to whoever computes it.
        wanted = sequence.tokens[:-2]
        sequence.cached = runner.cache.recall(part.row, wanted, sequence.salt, self._batch.alike(sequence, wanted))
        if sequence.recalled is None:
            sequence.recalled = sequence.cached
        return sequence.cached > 0

    def _decode(self, runner: Execution) -> None:
        running = list(self._batch.running)
        if all(sequence.length - sequence.cached > 1 for sequence in running):
            return  # nobody but prompts in the making, if anybody
        if not Reserve(runner.cache)(len(running), self._batch.positions):
            return  # the next step makes room
        started = self._clock()
        try:
            choices = runner.decode(running)
        except Exception as error:
            self._fail(runner, "decode", running, error)
            return
        tokens = sum(choice is not None for choice in choices)
        self._observer.stepped("decode", len(running), tokens, self._clock() - started)
        self._accept(runner, "decode", list(zip(running, choices, strict=True)))

    def _accept(self, runner: Execution, kind: str, choices: list[tuple[Sequence, Choice | None]]) -> None:
        started = self._clock()
        for sequence, choice in choices:
            if choice is not None:
                event = sequence.accept(choice)
                if isinstance(event, FailureEvent) or event.finish is not None:
                    if sequence.salt is not None:
                        row = self._batch.running.index(sequence)
                        runner.cache.keep(row, sequence.tokens[: sequence.cached], sequence.salt)
                    self._leave(runner, sequence)
                sequence.sink(event)
        self._observer.told(kind, self._clock() - started)

    def _fail(self, runner: Execution, kind: str, sequences: list[Sequence], error: Exception) -> None:
        """End the sequences that a failed pass was made for; the others go on."""
        log.error("a forward pass failed: %s", error, exc_info=error)
        self._observer.broke(kind)
        for sequence in sequences:
            self._leave(runner, sequence)
            sequence.sink(FailureEvent(f"{type(error).__name__}: {error}"))
