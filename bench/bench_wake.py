"""How long a wake takes, stage by stage, and what of it is ours: `make bench-wake`.

For a trivial container (20 wakes) and SmolLM2 (10 wakes): from the first byte of the request to the first byte of
the answer, through the gateway. Beside it, interleaved: the floor, the same pod made by a bare patch of its
Deployment's scale, with a client that dials the pod's IP as soon as it has one; and Knative Serving 0.50 with the same
image, through its activator. Then 200 requests at once on zero, ours and Knative's by turns. Everything runs on one
node, the client inside the cluster's network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from bench.knative import serving
from bench.knative.install import PROGRAMS, programs
from bench.local import prepare_process
from bench.wake.support import Inside, installed, measuring
from bench.wake.table import Measured, Runs, called, empty, result, table
from bench.wake.target import Target, endpoint, revision
from bench.wire.programs import compiled, say
from e2e.harness import SMOLLM2, TRIVIAL, Json, System, smollm2, trivial, wait_until
from zerotide.api.scalars import parse_duration

HERD = 200
# A herd is one consumer's, and all of it may go to the one replica at once, as Knative lets it.
ROOMY: Json = {
    "hold": {"maxRequests": 2 * HERD},
    "access": {"maxInFlightPerConsumer": 2 * HERD},
    "scaling": {"concurrency": {"limit": 0}},
}


@dataclass(frozen=True)
class Sleeper:
    """Something that sleeps, and how it is waited for after a start; that returns the start's stages in seconds."""

    target: Target
    asleep: Callable[[], dict[str, float]]

    def measured(self, start: Callable[[Target], Measured]) -> Measured:
        """Measure a start, and wait until it sleeps again."""
        seen = start(self.target)
        return seen._replace(stages=self.asleep() or seen.stages)


def ours(system: System, namespace: str, name: str, key: str, spec: Json) -> Sleeper:
    """Create an endpoint and return it asleep."""
    system.endpoint(namespace, name, spec)
    system.wait_state(namespace, name, "Asleep")
    latest = ""

    def over() -> Json | None:
        # The status may still say Asleep from before: it is written half a second after the wake began.
        status = system.status(namespace, name)
        last: Json = status.get("lastWake") or {}
        return last if status.get("state") == "Asleep" and last.get("id") not in (None, latest) else None

    def asleep() -> dict[str, float]:
        nonlocal latest
        last = wait_until(f"{name} woke and sleeps again", over, 60)
        latest = last["id"]
        return {stage["name"]: parse_duration(stage["duration"]) / 1e6 for stage in last["stages"]}

    return Sleeper(endpoint(namespace, name, key), asleep)


def knative(system: System, namespace: str, token: bool) -> Sleeper:
    """Create a Knative Service and return its revision at zero."""
    it = serving.revision(system, namespace, "knative", TRIVIAL, token=token)

    def asleep() -> dict[str, float]:
        it.wait_zero()
        return {}

    asleep()
    return Sleeper(revision(it), asleep)


class Step(NamedTuple):
    """A row of the table: how often it is measured, and how."""

    row: str
    times: int
    measured: Callable[[], Measured]


def steps(system: System, inside: Inside, given: argparse.Namespace) -> list[Step]:
    """Create who sleeps and return what is measured in each round, in its order."""
    namespace = system.namespace()
    key = system.key(namespace, "bench")
    quick = trivial(idle="5s", env={"SHUTDOWN_MS": "0"}, **ROOMY)
    first = ours(system, namespace, "trivial", key, quick)
    inside.floor_deployment(namespace, "trivial")

    def herd(it: Target) -> Measured:
        return inside.herd(it, HERD)

    listed = [
        Step("floor", given.trivial, lambda: inside.floor(namespace)),
        Step("trivial", given.trivial, lambda: first.measured(inside.wake)),
        Step("herd", given.herds, lambda: first.measured(herd)),
    ]
    if not given.no_knative:
        theirs = knative(system, namespace, not given.no_token)
        listed += [
            Step("knative", given.knative, lambda: theirs.measured(inside.wake)),
            Step("knative_herd", given.herds, lambda: theirs.measured(herd)),
        ]
    if given.smollm2:
        model = ours(system, namespace, "smollm2", key, smollm2(idle="5s"))
        listed.append(Step("smollm2", given.smollm2, lambda: model.measured(inside.wake)))
    return listed


def measure(listed: list[Step]) -> dict[str, Runs]:
    """Go round after round, and return what was measured."""
    runs = empty()
    rounds = max(step.times for step in listed)
    for number in range(rounds):
        told = []
        for step in listed:
            if number < step.times:
                seen = step.measured()
                runs[step.row].add(seen)
                told.append(f"{called(step.row)} {seen.seconds * 1000:.0f} ms")
        say(f"  round {number + 1} of {rounds}: {', '.join(told)}")
    return runs


def main() -> None:
    """Measure and print a table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trivial", type=int, default=20, help="wakes of the trivial container, and of the floor")
    parser.add_argument("--smollm2", type=int, default=10, help="wakes of SmolLM2")
    parser.add_argument("--knative", type=int, default=10, help="wakes of Knative's revision")
    parser.add_argument("--herds", type=int, default=5, help="times that 200 requests come at once, to each")
    parser.add_argument("--no-knative", action="store_true", help="leave Knative out: it needs half a minute each time")
    parser.add_argument("--no-token", action="store_true", help="Knative's pods mount no token, as ours do not")
    given = parser.parse_args()
    prepare_process()
    compiled("load")
    if not given.no_knative:
        programs(*PROGRAMS)
    with installed() as (cluster, system):
        if not given.no_knative:
            serving.install(cluster, system)
        with measuring(cluster, system) as inside:
            runs = measure(steps(system, inside, given))
    print(table(runs))
    say(f"image {SMOLLM2}")
    print("RESULT " + json.dumps(result(runs)))


if __name__ == "__main__":
    main()
