"""When to fall asleep: the learned policy beside fixed timeouts, other rules and the optimum: `make bench-policy`.

A recorded trace, thinned to sparse endpoints, and made-up ones, each with three lengths of a cold start and three
values of a second of waiting. Rules that learn run through the first two thirds of a trace; all are judged on the last.
`--trace FILE` takes another recorded trace with the same columns, packed by gzip or not; `--variants` compares variants
of ours on the first two thirds only, as its weight was chosen.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bench.policy.plot import draw
from bench.policy.traces import RECORDED, habitual, recorded, synthetic
from zerotide.api.failures import ApiError
from zerotide.cli.errors import CliError
from zerotide.cli.output import format_table
from zerotide.scaling.replay.ahead import Ahead
from zerotide.scaling.replay.optimum import optimum
from zerotide.scaling.replay.rules import Weights, prior_of
from zerotide.scaling.replay.score import COLD_S, PRICES, Cell, cells, fixed, learned
from zerotide.scaling.replay.simulate import total
from zerotide.scaling.replay.trace import Trace
from zerotide.scaling.replay.verdict import floor, geometric, verdict

PLOT = Path(".build/bench-policy.png")
WEIGHTS = ((3.0, 0.0), (1.0, 4.0), (3.0, 16.0), (8.0, 32.0), (16.0, 4.0))
ROUNDED = 4


def judge(trace: Trace) -> list[Cell]:
    """Return the cells of a trace. Raises EmptyHoldout."""
    return cells(*trace.held_out())


def by_trace(judged: Sequence[Cell]) -> list[str]:
    """Return the lines of a table: for each trace, ratios over its cells."""
    rows = []
    for trace in dict.fromkeys(cell.trace for cell in judged):
        of = [cell for cell in judged if cell.trace == trace]
        ratios = (
            [cell.vs_chosen for cell in of],
            [cell.vs_hindsight for cell in of],
            [cell.cost / cell.knative.cost(cell.prices) for cell in of],
            [cell.cost / cell.kubeai.cost(cell.prices) for cell in of],
            [cell.vs_optimum for cell in of],
        )
        waits = [cell.wait_at_equal_gpu for cell in of]
        rows.append(
            [
                trace,
                *(f"{geometric(r):.2f} ({max(r):.2f})" for r in ratios),
                f"{sum(waits) / len(waits):.2f} ({max(waits):.2f})",
            ]
        )
    header = ["TRACE", "CHOSEN", "HINDSIGHT", "KNATIVE", "KUBEAI", "OPTIMUM", "WAIT=GPU"]
    return format_table(header, rows, right=header[1:])


def by_cell(judged: Sequence[Cell]) -> list[str]:
    """Return the lines of a table with every cell."""
    rows = [
        [
            cell.trace,
            f"{cell.cold_s:g}",
            f"{cell.prices.waiting:g}",
            f"{cell.cost:.2f}",
            f"{cell.optimum:.2f}",
            f"{cell.chosen_s:g}",
            f"{cell.vs_chosen:.3f}",
            f"{cell.hindsight_s:g}",
            f"{cell.vs_hindsight:.3f}",
            f"{cell.vs_optimum:.3f}",
            f"{cell.wait_at_equal_gpu:.3f}",
        ]
        for cell in judged
    ]
    header = ["TRACE", "C", "V", "OURS", "OPTIMUM", "CHOSEN", "VS", "BEST", "VS", "VS-OPT", "WAIT=GPU"]
    return format_table(header, rows, right=header[1:])


def variants(trace: Trace) -> dict[Weights, list[float]]:
    """Return for each pair of weights the costs against the best fixed: learned on a third, judged on the next."""
    first, second = trace.between(0, 1 / 3), trace.between(1 / 3, 2 / 3)
    ratios: dict[Weights, list[float]] = {weights: [] for weights in WEIGHTS}
    for cold_s in COLD_S:
        prior = prior_of(first.endpoints, cold_s)
        theirs = [fixed(second, cold_s, timeout) for timeout in (30, 60, 120, 300, 600, 900, 1200)]
        for prices in PRICES:
            best = min(outcome.cost(prices) for outcome in theirs)
            for weights in WEIGHTS:
                ours = learned(first, second, prior, cold_s, prices, weights)
                ratios[weights].append(ours.cost(prices) / best)
    return ratios


def ahead(trace: Trace, budget_s: float = 1_800.0, timeout_s: float = 300.0) -> list[str]:
    """Return the lines of a table: prewarming beside the same timeout without it, on the last third of a trace."""
    rows, after, judged_s = [], trace.held_out()[1], trace.end_s * 2 / 3
    for cold_s in COLD_S:
        for prices in PRICES:
            ours, plain = (
                total(Ahead(cold_s, timeout_s, prices, budget).run(arrivals, judged_s) for arrivals in trace.endpoints)
                for budget in (budget_s, 0.0)
            )
            best = sum(optimum(arrivals, cold_s, prices, ahead=True) for arrivals in after.endpoints)
            reactive = sum(optimum(arrivals, cold_s, prices) for arrivals in after.endpoints)
            figures = (ours.cost(prices) / plain.cost(prices), ours.cost(prices) / best, plain.cost(prices) / best)
            colds = f"{ours.cold_starts} of {plain.cold_starts}"
            rows.append(
                [f"{cold_s:g}", f"{prices.waiting:g}", colds, *(f"{x:.3f}" for x in (*figures, reactive / best))]
            )
    header = ["C", "V", "COLD-STARTS", "OF-PLAIN", "OF-BEST", "PLAIN-OF-BEST", "REACTIVE-OF-BEST"]
    return format_table(header, rows, right=header)


def result(judged: Sequence[Cell]) -> dict[str, float | int | None]:
    """Return what the RESULT line says."""
    return {
        name: round(value, ROUNDED) if isinstance(value, float) else value
        for name, value in asdict(verdict(judged)).items()
    }


def main() -> None:
    """Judge, print tables and the RESULT line, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, default=RECORDED, help="a recorded trace; default: %(default)s")
    parser.add_argument("--plot", type=Path, default=PLOT, help="where the picture goes; default: %(default)s")
    parser.add_argument("--variants", action="store_true", help="compare variants on the first two thirds only")
    given = parser.parse_args()
    try:
        traces = [*recorded(given.trace), *synthetic()]
        with ProcessPoolExecutor() as pool:
            if given.variants:
                found = list(pool.map(variants, traces))
                for weights in WEIGHTS:
                    ratios = [ratio for one in found for ratio in one[weights]]
                    told = f"base {weights[0]:g}, others {weights[1]:g}"
                    print(f"{told}: {geometric(ratios):.4f} of the best fixed, at most {max(ratios):.3f}")
                return
            judged = [cell for found_cells in pool.map(judge, traces) for cell in found_cells]
    except (CliError, ApiError) as error:
        sys.exit(f"bench-policy: {error}")
    for line in [*by_cell(judged), "", "geometric mean (most) over cells:", *by_trace(judged), *floors()]:
        print(line)
    print("\nprewarming, a timeout of 5m, 30m a day; best: who knows all requests and starts before them:")
    for line in ahead(habitual()):
        print(line)
    draw(judged, given.plot)
    print(f"the picture: {given.plot}")
    print("RESULT " + json.dumps(result(judged)))


def floors() -> list[str]:
    """Return a line that says what no rule can beat for Poisson arrivals."""
    told = ", ".join(f"{x:g}: {floor(x):.2f}" for x in (0.1, 0.5, 1.0, 2.0, 5.0))
    return ["", f"floor for Poisson arrivals against the optimum, by rate × break-even: {told}"]


if __name__ == "__main__":
    main()
