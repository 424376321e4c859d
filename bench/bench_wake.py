"""How long a wake takes, stage by stage, and what of it is ours: `make bench-wake`.

For a trivial container (20 wakes) and SmolLM2 (10 wakes): from the first byte of the request to the first byte of
the answer, through the gateway. Beside it, interleaved, the floor: the same pod made by a bare patch of its
Deployment's scale, with a client that dials the pod's IP as soon as it has one. Everything runs on one node, the
client inside the cluster's network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.support import Inside, Measured, installed
from e2e.harness import SMOLLM2, Json, System, smollm2, trivial, wait_until
from zerotide.api.scalars import parse_duration

ROOT = Path(__file__).resolve().parents[1]
QUANTILES = ("p50_ms", 0.5), ("p90_ms", 0.9)


def quantile(values: list[float], q: float) -> float:
    """Return a quantile by linear interpolation (one value: itself)."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[round(q * 100) - 1]


def milliseconds(values: list[float], q: float) -> float | None:
    """Return a quantile of seconds as milliseconds with one decimal; None where nothing was measured."""
    if not values:
        return None
    return round(quantile(values, q) * 1000, 1)


def main() -> None:
    """Measure and print a table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trivial", type=int, default=20, help="wakes of the trivial container")
    parser.add_argument("--smollm2", type=int, default=10, help="wakes of SmolLM2")
    arguments = parser.parse_args()
    with installed() as (system, inside):
        namespace = system.namespace()
        key = system.key(namespace, "bench")
        system.endpoint(namespace, "trivial", trivial(idle="5s", env={"SHUTDOWN_MS": "0"}))
        system.endpoint(namespace, "smollm2", smollm2(idle="5s"))
        system.wait_state(namespace, "trivial", "Asleep")
        inside.floor_deployment(namespace, "trivial")
        runs: dict[str, Runs] = {name: Runs() for name in ("floor", "trivial", "smollm2")}
        for round_ in range(max(arguments.trivial, arguments.smollm2)):
            if round_ < arguments.trivial:
                runs["floor"].add(inside.floor(namespace))
                runs["trivial"].add(*wake(system, inside, namespace, "trivial", key))
            if round_ < arguments.smollm2:
                runs["smollm2"].add(*wake(system, inside, namespace, "smollm2", key))
            print(f"\rround {round_ + 1}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        show(runs)


@dataclass
class Runs:
    """What was measured again and again, in seconds."""

    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    marks: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measured: Measured, stages: dict[str, float] | None = None) -> None:
        """Take in one run."""
        self.seconds.append(measured.seconds)
        tables = (self.stages, stages or measured.stages), (self.marks, measured.marks), (self.cpu, measured.cpu)
        for table, values in tables:
            for name, value in values.items():
                table.setdefault(name, []).append(value)


def wake(system: System, inside: Inside, namespace: str, name: str, key: str) -> tuple[Measured, dict[str, float]]:
    """Measure a wake, wait until the endpoint sleeps again, and return its stages in seconds too."""
    before = (system.status(namespace, name).get("lastWake") or {}).get("id")
    measured = inside.wake(namespace, name, key)

    def over() -> Json | None:
        # The status may still say Asleep from before: it is written half a second after the wake began.
        status = system.status(namespace, name)
        last: Json = status.get("lastWake") or {}
        return last if status.get("state") == "Asleep" and last.get("id") not in (None, before) else None

    last = wait_until(f"{name} woke and sleeps again", over, 60)
    return measured, {stage["name"]: parse_duration(stage["duration"]) / 1e6 for stage in last["stages"]}


def show(runs: dict[str, Runs]) -> None:
    """Print the tables for people and the line for machines."""
    summary: dict[str, dict[str, dict[str, float | None]]] = {}
    print(f"{'':24}{'p50 ms':>10}{'p90 ms':>10}")
    measured = {f"{name}_{key}": milliseconds(run.seconds, q) for name, run in runs.items() for key, q in QUANTILES}
    runs = {name: run for name, run in runs.items() if run.seconds}
    for name, run in runs.items():
        print(f"{name:24}{milliseconds(run.seconds, 0.5):>10}{milliseconds(run.seconds, 0.9):>10}")
        for stage, seconds in run.stages.items():
            p50, p90 = milliseconds(seconds, 0.5), milliseconds(seconds, 0.9)
            summary.setdefault(name, {})[stage] = {"p50_ms": p50, "p90_ms": p90}
            print(f"  {stage:22}{p50:>10}{p90:>10}")
    medians = {
        name: {
            "marks": {mark: milliseconds(seconds, 0.5) for mark, seconds in run.marks.items()},
            "cpu": {process: milliseconds(seconds, 0.5) for process, seconds in run.cpu.items()},
        }
        for name, run in runs.items()
    }
    for kind, title in (("marks", "seen after, p50 ms"), ("cpu", "processor, p50 ms")):
        print(f"\n{title:24}" + "".join(f"{name:>10}" for name in medians))
        for row in dict.fromkeys(row for median in medians.values() for row in median[kind]):
            print(f"  {row:22}" + "".join(f"{median[kind].get(row) or '':>10}" for median in medians.values()))
    print(f"image {SMOLLM2}", file=sys.stderr)
    print("RESULT " + json.dumps({**measured, "stages": summary, "medians": medians}))


if __name__ == "__main__":
    main()
