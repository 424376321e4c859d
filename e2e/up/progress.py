"""Say what is being done, how long each step took, and at the end where the time went."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator

from e2e.up.errors import StepFailed


class Progress:
    """Number steps, indent what they say, and keep their times."""

    def __init__(self, total: int, say: Callable[[str], None] = lambda line: print(line, flush=True)) -> None:
        self._total, self._say = total, say
        self.took: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Announce a step, and say its time when it is done."""
        started = time.monotonic()
        self._say(f"[{len(self.took) + 1}/{self._total}] {what}")
        yield
        self.took[name] = time.monotonic() - started
        self._say(f"      done in {self.took[name]:.1f} s")

    def say(self, line: str) -> None:
        """Say something within a step."""
        self._say(f"      {line.strip()}" if line.strip() else "")

    def summary(self) -> str:
        """Return where the time went, longest first."""
        parts = sorted(self.took.items(), key=lambda item: -item[1])
        return f"{sum(self.took.values()):.0f} s: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts)


def capture(command: list[str], environment: dict[str, str], stdin: str | None = None) -> str:
    """Run a program and return its stdout. Raises StepFailed with its stderr."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise StepFailed(f"`{' '.join(command)}` failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def show(command: list[str], environment: dict[str, str]) -> None:
    """Run a program that talks to the user itself. Raises StepFailed."""
    if subprocess.run(command, env=environment).returncode != 0:
        raise StepFailed(f"`{' '.join(command)}` failed; its output is above")
