"""Say on stderr how a wake goes: in place on a terminal, else a line for each phase and heartbeat."""

from __future__ import annotations

import time
from typing import TextIO

from zerotide.api.conditions import State
from zerotide.api.scalars import MILLISECOND, SECOND
from zerotide.cli.output import format_span
from zerotide.cli.sse import Comment

AWAKE = State.AWAKE.value


class Ticker:
    """What is known of an endpoint while a request to it is held."""

    def __init__(self, name: str, err: TextIO) -> None:
        self._name, self._err, self._terminal = name, err, err.isatty()
        self._started, self._state, self._ready_in = time.monotonic(), "", ""
        self._shown = self._stopped = self._told = False

    def state(self, state: str) -> None:
        """Take the state that the endpoint's status tells, where the stream tells none."""
        if not self._told:
            self._state = state or self._state

    def heard(self, comment: Comment) -> None:
        """Take what the stream of the held request says: a phase or a heartbeat."""
        phase = comment.phase()
        self._told = self._told or phase is not None
        if phase is not None and not phase.held:
            self._state = AWAKE
            self._clear()
        elif phase is not None:
            ready_in = "" if phase.ready_in_ms is None else format_span(phase.ready_in_ms * MILLISECOND)
            self._take(phase.state, ready_in, format_span(phase.elapsed_ms * MILLISECOND))
        elif (beat := comment.heartbeat()) is not None:
            self._take(beat.get("state", self._state), beat.get("ready-in", ""), beat.get("elapsed", ""))

    def tick(self) -> None:
        """Draw the line again, on a terminal, once the model is known not to be awake."""
        if self._terminal and not self._stopped and self._state not in ("", AWAKE):
            elapsed = format_span(round((time.monotonic() - self._started) * SECOND))
            print(f"\r\x1b[K{self._line(elapsed)}", end="", file=self._err, flush=True)
            self._shown = True

    def stop(self) -> None:
        """Take the line away."""
        if not self._stopped:
            self._clear()
        self._stopped = True

    def _take(self, state: str, ready_in: str, elapsed: str) -> None:
        self._state, self._ready_in = state, ready_in
        if not self._terminal:
            print(self._line(elapsed), file=self._err, flush=True)

    def _clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=self._err, flush=True)
        self._shown = False

    def _line(self, elapsed: str) -> str:
        ready = f", ready in about {self._ready_in}" if self._ready_in else ""
        what = "is busy" if self._state == AWAKE else f"wakes: {self._state or 'Waking'}"
        return f"… {self._name} {what} for {elapsed}{ready}"
