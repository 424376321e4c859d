"""What the wake benchmark makes of its measurements: the tables for people, the RESULT line for machines."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9}
STARTS = ("floor", "trivial", "smollm2", "knative")
"""Rows of single starts; those of herds follow."""
HERDS = ("herd", "knative_herd")
FIRST = "first answer"


class Measured(NamedTuple):
    """Seconds: as a whole, by stage, until a watch showed each step, and of processor by process meanwhile."""

    seconds: float
    stages: dict[str, float]
    marks: dict[str, float]
    cpu: dict[str, float]


@dataclass
class Runs:
    """What was measured again and again, in seconds."""

    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    marks: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measured: Measured) -> None:
        """Take in one run."""
        self.seconds.append(measured.seconds)
        tables = (self.stages, measured.stages), (self.marks, measured.marks), (self.cpu, measured.cpu)
        for table, values in tables:
            for name, value in values.items():
                table.setdefault(name, []).append(value)


def empty() -> dict[str, Runs]:
    """Return the runs of a benchmark that begins."""
    return {name: Runs() for name in (*STARTS, *HERDS)}


def quantile(values: list[float], q: float) -> float:
    """Return a quantile by linear interpolation (one value: itself)."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[round(q * 100) - 1]


def milliseconds(values: list[float], q: float = 0.5) -> float | None:
    """Return a quantile of seconds as milliseconds with one decimal; None where nothing was measured."""
    if not values:
        return None
    return round(quantile(values, q) * 1000, 1)


def result(runs: dict[str, Runs]) -> dict[str, Any]:
    """Return what the RESULT line says; None where nothing was measured."""
    said: dict[str, Any] = {
        f"{name}_{key}": milliseconds(runs[name].seconds, q) for name in STARTS for key, q in QUANTILES.items()
    }
    for name in HERDS:
        said[f"{name}_first_ms"] = milliseconds(runs[name].marks.get(FIRST, []))
        said[f"{name}_last_ms"] = milliseconds(runs[name].seconds)
    measured = {name: run for name, run in runs.items() if run.seconds}
    said["stages"] = {
        name: {
            stage: {key: milliseconds(seconds, q) for key, q in QUANTILES.items()}
            for stage, seconds in run.stages.items()
        }
        for name, run in measured.items()
        if run.stages
    }
    said["medians"] = {
        name: {
            "marks": {mark: milliseconds(seconds) for mark, seconds in run.marks.items()},
            "cpu": {process: milliseconds(seconds) for process, seconds in run.cpu.items()},
        }
        for name, run in measured.items()
    }
    return said


def table(runs: dict[str, Runs]) -> str:
    """Return the tables, with a column for each row that was measured."""
    measured = {name: run for name, run in runs.items() if run.seconds}
    lines = [f"{'':24}{'times':>8}{'p50 ms':>10}{'p90 ms':>10}"]
    for name, run in measured.items():
        lines.append(f"{called(name):24}{len(run.seconds):8}{_both(run.seconds)}")
        lines += [f"  {stage:30}{_both(seconds)}" for stage, seconds in run.stages.items()]
    lines += against(runs)
    lines += _columns("seen after, p50 ms", measured, lambda run: run.marks)
    lines += _columns("processor, p50 ms", measured, lambda run: run.cpu)
    return "\n".join(lines)


def against(runs: dict[str, Runs]) -> list[str]:
    """Return a line for each pair of ours and Knative's: one as a share of the other, at the median."""
    lines = []
    for ours, theirs in (("trivial", "knative"), ("herd", "knative_herd")):
        if runs[ours].seconds and runs[theirs].seconds:
            share = quantile(runs[ours].seconds, 0.5) / quantile(runs[theirs].seconds, 0.5)
            lines.append(f"{called(ours)} / {called(theirs)}: {share:.2f}")
    return lines


def called(name: str) -> str:
    """Return a row's name for people."""
    return name.replace("_", " ") + (", last" if name in HERDS else "")


def _both(seconds: list[float]) -> str:
    return "".join(f"{milliseconds(seconds, q):>10}" for q in QUANTILES.values())


def _columns(title: str, runs: dict[str, Runs], take: Callable[[Runs], dict[str, list[float]]]) -> list[str]:
    columns = {name: take(run) for name, run in runs.items()}
    lines = ["", f"{title:24}" + "".join(f"{name:>14}" for name in columns)]
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        cells = (milliseconds(column.get(row, [])) for column in columns.values())
        lines.append(f"  {row:22}" + "".join(f"{'' if cell is None else cell:>14}" for cell in cells))
    return lines
