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
from pathlib import Path

from bench.support import installed
from e2e.harness import SMOLLM2, System, smollm2, trivial

ROOT = Path(__file__).resolve().parents[1]


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
        walls: dict[str, list[float]] = {"floor": [], "trivial": [], "smollm2": []}
        stages: dict[str, dict[str, list[float]]] = {"floor": {}, "trivial": {}, "smollm2": {}}
        for round_ in range(max(arguments.trivial, arguments.smollm2)):
            if round_ < arguments.trivial:
                seconds, parts = inside.floor(namespace)
                walls["floor"].append(seconds)
                for stage, part in parts.items():
                    stages["floor"].setdefault(stage, []).append(part)
                walls["trivial"].append(inside.wake(namespace, "trivial", key))
                note_stages(system, namespace, "trivial", stages["trivial"])
            if round_ < arguments.smollm2:
                walls["smollm2"].append(inside.wake(namespace, "smollm2", key))
                note_stages(system, namespace, "smollm2", stages["smollm2"])
            print(f"\rround {round_ + 1}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        show(walls, stages)


def note_stages(system: System, namespace: str, name: str, into: dict[str, list[float]]) -> None:
    """Add the stages of the last wake, in seconds."""
    from zerotide.api.scalars import parse_duration

    status = system.wait_state(namespace, name, "Asleep", timeout=60)
    for stage in status["lastWake"]["stages"]:
        into.setdefault(stage["name"], []).append(parse_duration(stage["duration"]) / 1e6)


def show(walls: dict[str, list[float]], stages: dict[str, dict[str, list[float]]]) -> None:
    """Print the table for people and the line for machines."""
    summary: dict[str, dict[str, dict[str, float | None]]] = {}
    print(f"{'':24}{'p50 ms':>10}{'p90 ms':>10}")
    for name, values in ((name, values) for name, values in walls.items() if values):
        print(f"{name:24}{milliseconds(values, 0.5):>10}{milliseconds(values, 0.9):>10}")
        for stage, seconds in stages.get(name, {}).items():
            p50, p90 = milliseconds(seconds, 0.5), milliseconds(seconds, 0.9)
            summary.setdefault(name, {})[stage] = {"p50_ms": p50, "p90_ms": p90}
            print(f"  {stage:22}{p50:>10}{p90:>10}")
    result = {
        "trivial_p50_ms": milliseconds(walls["trivial"], 0.5),
        "trivial_p90_ms": milliseconds(walls["trivial"], 0.9),
        "floor_p50_ms": milliseconds(walls["floor"], 0.5),
        "smollm2_p50_ms": milliseconds(walls["smollm2"], 0.5),
        "smollm2_p90_ms": milliseconds(walls["smollm2"], 0.9),
        "stages": summary,
    }
    print(f"image {SMOLLM2}", file=sys.stderr)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
