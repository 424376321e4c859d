"""`zerotide plan`, and `replay` of it: what rules for falling asleep would have cost on recorded arrivals."""

from __future__ import annotations

import argparse
import random
from dataclasses import asdict
from pathlib import Path

from zerotide.api.scalars import SECOND
from zerotide.api.wording import counted
from zerotide.cli import advise, compare, forecast
from zerotide.cli.arrivals import TRACE, name_of, read_trace
from zerotide.cli.commands import Subparsers, declare, defaulted, figure, group, lasting, positive, whole
from zerotide.cli.errors import UsageError
from zerotide.cli.output import format_span
from zerotide.cli.session import Session
from zerotide.scaling.replay.rules import FIXED_S
from zerotide.scaling.replay.score import Cell, cells
from zerotide.scaling.replay.simulate import Outcome, Prices
from zerotide.scaling.replay.synthetic import KINDS, make
from zerotide.scaling.replay.trace import Thinning, Trace, thin, timed
from zerotide.scaling.replay.verdict import verdict


def add(commands: Subparsers) -> None:
    """Declare the commands."""
    plans = group(commands, "plan", "find out what scaling costs, and what would be cheaper")
    advise.add(plans)
    forecast.add(plans)
    compare.add(plans)
    parser = declare(
        plans,
        "replay",
        replay,
        "replay a trace under fixed timeouts, other systems' rules and the learned one",
        text="Replay a trace under fixed timeouts, Knative's and KubeAI's defaults and the learned policy. Rules\n"
        "learn on the first two thirds and are priced on the last one, beside one who knows all requests. A trace is\n"
        "shared out over --endpoints and slowed down by --stretch; --endpoints 1 --stretch 1 takes it as it is.",
        examples="""zerotide plan replay --trace requests.csv
            zerotide plan replay --trace requests.csv --endpoints 30 --run 15 --stretch 24 --seed 2
            zerotide plan replay --synthetic on-off --cold-start 1m --json""",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--trace", type=Path, metavar="FILE", help=TRACE)
    source.add_argument("--synthetic", choices=list(KINDS), help="a made-up trace of this kind")
    thinning = Thinning()
    said = "endpoints that there are; they share a trace's requests"
    defaulted(parser, "--endpoints", whole, thinning.endpoints, said)
    defaulted(parser, "--run", whole, thinning.run, "mean length of runs that stay together")
    defaulted(parser, "--stretch", positive, thinning.stretch, "slow the trace down so many times", "X")
    defaulted(parser, "--seed", int, thinning.seed, "of everything random")
    defaulted(parser, "--cold-start", lasting, "30s", "length of a cold start", "TIME")
    defaulted(parser, "--gpu-second", figure, Prices().gpu, "price of a replica", "USD")
    advise.add_waiting(parser)


async def replay(session: Session, args: argparse.Namespace) -> None:
    """Print what each rule costs on the held-out third."""
    if not args.cold_start:
        raise UsageError("--cold-start must be longer than 0s: without it nothing has to be decided")
    trace, printer = _trace(args), session.printer
    before, after = trace.held_out()
    prices = Prices(args.gpu_second, args.waiting_second)
    (cell,) = cells(before, after, [args.cold_start / SECOND], [prices])
    if printer.as_json:
        rules = {name: {**asdict(outcome), "cost": outcome.cost(prices)} for name, outcome in _rules(cell)}
        told = {"trace": trace.name, "requests": after.requests, "rules": rules, "optimum": cell.optimum}
        printer.json({**told, "chosenFixedSeconds": cell.chosen_s, **asdict(verdict([cell]))})
        return
    rows = [_row(name, outcome, cell) for name, outcome in _rules(cell)]
    rows.append(["optimum", f"{cell.optimum:.2f}", "1.00", "", "", "", "", ""])
    header = ["RULE", "USD", "OF-OPTIMUM", "COLD-STARTS", "LOAD", "ACTIVE", "IDLE", "WAITED"]
    printer.table(header, rows, right=" ".join(header[1:]))
    judged = f"{counted(after.requests, 'request')} to {counted(len(after.endpoints), 'endpoint')}"
    printer.prose(
        f"{trace.name}: {judged} in its last third. "
        f"The learned policy costs {cell.vs_chosen:.2f} of {cell.chosen_s:g} s, the fixed timeout that was best before."
    )


def _trace(args: argparse.Namespace) -> Trace:
    source = random.Random(args.seed)
    if args.synthetic:
        return make(args.synthetic, source, args.endpoints)
    how = Thinning(args.endpoints, args.run, args.stretch, args.seed)
    rows = timed(read_trace(args.trace))
    return thin(f"{name_of(args.trace)} ({how})", rows, how, source)


def _rules(cell: Cell) -> list[tuple[str, Outcome]]:
    fixed = [(f"fixed {timeout} s", cell.fixed[timeout]) for timeout in FIXED_S]
    return [*fixed, ("Knative", cell.knative), ("KubeAI", cell.kubeai), ("learned", cell.ours)]


def _row(name: str, outcome: Outcome, cell: Cell) -> list[str]:
    cost = outcome.cost(cell.prices)
    spans = (outcome.load_s, outcome.active_s, outcome.idle_s, outcome.waited_s)
    return [
        name,
        f"{cost:.2f}",
        f"{cost / cell.optimum:.2f}",
        str(outcome.cold_starts),
        *(format_span(int(span * SECOND)) for span in spans),
    ]
