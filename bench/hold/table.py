"""What the held benchmark makes of its measurements: the table for people, the RESULT line for machines."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from bench.wire.load import Load, LoadFailed

OURS, KNATIVE, COUNCIL = "ours", "knative", "council"


@dataclass
class Outcome:
    """What one that holds has shown: instants after the address in ms, bytes for each of the many."""

    first_ms: list[float] = field(default_factory=list)
    last_ms: list[float] = field(default_factory=list)
    held: int = 0
    bytes_each: float = 0.0
    idle_bytes: int = 0
    others: dict[int, int] = field(default_factory=dict)

    def released(self, load: Load, appeared_us: float) -> None:
        """Count a release."""
        self.first_ms.append((load.first_us - appeared_us) / 1e3)
        self.last_ms.append((load.last_us - appeared_us) / 1e3)

    def keeps(self, held: int, size: int, load: Load) -> None:
        """Count what many took, and the answers but 200 that they got once all went to one replica at once."""
        self.held, self.bytes_each = held, size / held
        lost = {0: load.failed} if load.failed else {}
        self.others = lost | {status: count for status, count in load.statuses.items() if status != 200}


@dataclass(frozen=True)
class Bounded:
    """The resident memory before and after clients came for a while to a full endpoint, and what they were told."""

    bound: int
    before: int
    after: int
    load: Load

    def checked(self) -> Bounded:
        """Return itself if every client was told 429. Raises LoadFailed."""
        if self.load.failed or set(self.load.statuses) != {429}:
            raise LoadFailed(f"a full endpoint: {self.load.failed} failed, statuses {self.load.statuses}")
        return self

    def line(self) -> str:
        """Return it as a sentence."""
        came = f"{self.load.answered:,} more came in {self.load.seconds:.0f} s and got 429"
        return (
            f"bounded at {self.bound:,} held: {came}; "
            f"RSS {self.before / 2**20:.1f} MiB before, {self.after / 2**20:.1f} MiB after"
        )


def result(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Return what the RESULT line says; None of who took no part."""
    ours = outcomes[OURS]
    said: dict[str, Any] = {"held": ours.held, "bytes_per_held": round(ours.bytes_each), **_released(ours)}
    for name in (KNATIVE, COUNCIL):
        outcome = outcomes.get(name, Outcome())
        said[f"{name}_bytes_per_held"] = round(outcome.bytes_each) or None
        said |= {f"{name}_{key}": value for key, value in _released(outcome).items()}
    return said


def _released(outcome: Outcome) -> dict[str, float | None]:
    """Return the instants of a release, at the median."""
    keys = {"first_ms": outcome.first_ms, "last_ms": outcome.last_ms}
    return {key: round(statistics.median(values), 1) if values else None for key, values in keys.items()}


def table(outcomes: dict[str, Outcome]) -> str:
    """Return the table."""
    lines = [f"{'':10}{'first ms':>10}{'last ms':>10}{'held':>9}{'bytes each':>12}{'idle MiB':>10}  not 200"]
    for name, it in outcomes.items():
        spans = f"{statistics.median(it.first_ms):10.1f}{statistics.median(it.last_ms):10.1f}"
        lines.append(f"{name:10}{spans}{it.held:9,}{it.bytes_each:12,.0f}{it.idle_bytes / 2**20:10.1f}  {others(it)}")
    return "\n".join(lines)


def others(outcome: Outcome) -> str:
    """Return what the many got but 200, as text."""
    named = (f"{count} {status or 'closed'}" for status, count in sorted(outcome.others.items()))
    return ", ".join(named) or "none"
