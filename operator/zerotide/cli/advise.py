"""`zerotide plan advise`: what an endpoint's own requests say about how it should scale."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import yaml

from zerotide.api.base import parse_duration
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND
from zerotide.api.spec_scaling import Scaling
from zerotide.billing.reports import ArrivalReport, CostReport
from zerotide.cli.advise_text import basis, compared, left_out, patch, sentence, table
from zerotide.cli.arrivals import COLD_S, add_arguments, recorded, replica_price
from zerotide.cli.commands import Subparsers, declare, defaulted, figure
from zerotide.cli.output import Printer
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session
from zerotide.scaling.advice import Advice, Option, advise
from zerotide.scaling.hours import History
from zerotide.scaling.replay.simulate import Outcome, Prices
from zerotide.scaling.replay.trace import Arrivals
from zerotide.scaling.windows import Windows


def add(plans: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        plans,
        "advise",
        print_advice,
        "say how an endpoint should scale, by a replay of its own requests",
        text="Replay an endpoint's own requests, as the exporter has them, under other idle timeouts, the learned\n"
        "policy and windows in which it is kept awake. The advice goes to stderr, the patch for it to stdout.",
        examples="""zerotide plan advise smollm2
            zerotide plan advise smollm2 --since 720h --time-zone Europe/Rome > patch.yaml
            zerotide plan advise smollm2 --dedicated-hour 1.99 --api-million 0.6 --json""",
    )
    add_arguments(parser, since="720h", zone_of="windows")
    parser.add_argument("--gpu-second", type=figure, metavar="USD", help="price of a replica; default: as billed")
    add_waiting(parser)
    parser.add_argument("--dedicated-hour", type=figure, metavar="USD", help="what a machine of your own would cost")
    parser.add_argument("--api-million", type=figure, metavar="USD", help="what a million tokens cost elsewhere")


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """Declare the price of waiting."""
    said = "what it is worth that a request waits a second less"
    defaulted(parser, "--waiting-second", figure, Prices().waiting, said, "USD")


async def print_advice(session: Session, args: argparse.Namespace) -> None:
    """Print the advice, its reasons, and the patch."""
    endpoint, arrivals, query, _ = await recorded(session, args)
    say(session.printer, args, endpoint, arrivals, await fetch(session, CostReport, "cost", query))


def say(
    printer: Printer,
    args: argparse.Namespace,
    endpoint: InferenceEndpoint,
    arrivals: ArrivalReport,
    cost: CostReport,
) -> None:
    """Print what an endpoint and the exporter's reports of it say."""
    history, scaling = history_of(arrivals), endpoint.spec.scaling
    prices, priced = _prices(cost, args)
    known = endpoint.status.cold_starts.p50 if endpoint.status.cold_starts else None
    cold_s = parse_duration(known) / SECOND if known else COLD_S
    advice = advise(history, cold_s, prices, _present(scaling, history), args.time_zone)
    learned = f"The learned policy would take {advice.explained}."
    notes = [
        basis(history, prices, cost.currency),
        learned,
        *priced,
        *([] if known else [f"No cold start was measured yet: {COLD_S:g} s is assumed."]),
    ]
    notes += [*left_out(scaling), *compared(advice, prices, cost, args.dedicated_hour, args.api_million)]
    if printer.as_json:
        printer.json(_document(advice, prices, notes, scaling))
        return
    if advice.too_little:
        printer.prose(f"{advice.too_little}.")
        return
    for line in [sentence(advice, prices), "", *table(advice, prices), *notes]:
        printer.prose(line)
    if advice.best is not advice.present:
        printer.data(yaml.safe_dump(patch(advice.best, scaling), sort_keys=False).rstrip())


def _present(scaling: Scaling, history: History) -> Option:
    """Return what the spec asks for, not replayed yet."""
    windows = Windows.of(scaling, history.begin_s, history.end_s) if scaling.schedules else None
    idle, kept = scaling.idle, scaling.kept_replicas
    return Option("now", Outcome(), idle.timeout.seconds, idle.policy == "Learned", None, windows, kept)


def history_of(report: ArrivalReport) -> History:
    """Return what a report tells, from its first request on: what was before that, nobody knows."""
    begin_us = report.requests[0][0] if report.requests else report.to_us
    times = tuple((came - begin_us) / SECOND for came, _ in report.requests)
    services = tuple(served / SECOND for _, served in report.requests)
    return History(begin_us / SECOND, report.to_us / SECOND, Arrivals(times, services))


def _prices(cost: CostReport, args: argparse.Namespace) -> tuple[Prices, list[str]]:
    default = Prices(waiting=args.waiting_second)
    if args.gpu_second:
        return Prices(args.gpu_second, args.waiting_second), []
    billed = replica_price(cost)
    if billed is not None:
        return Prices(billed, args.waiting_second), []
    return default, [f"The price book has no price for it: {default.gpu} for a second of a replica is assumed."]


def _document(advice: Advice, prices: Prices, notes: list[str], scaling: Scaling) -> dict[str, Any]:
    options = {
        option.name: {**asdict(option.outcome), "cost": option.outcome.cost(prices)}
        for option in (*advice.options, advice.always_on)
    }
    if advice.too_little:
        return {"tooLittle": advice.too_little, "options": options, "notes": notes}
    said = {"sentence": sentence(advice, prices), "best": advice.best.name, "present": advice.present.name}
    return {
        **said,
        "pricePerAvoidedColdStart": advice.price_of_avoided(prices),
        "patch": patch(advice.best, scaling) if advice.best is not advice.present else None,
        "options": options,
        "notes": notes,
    }
