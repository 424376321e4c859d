"""`zerotide plan forecast`: when an endpoint will be woken in the coming week, by what woke it before."""

from __future__ import annotations

import argparse
from typing import Any

from zerotide.api.base import format_time, parse_duration
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND, format_duration
from zerotide.api.wording import counted
from zerotide.billing.periods import local, zone
from zerotide.cli.arrivals import COLD_S, add_arguments, recorded
from zerotide.cli.commands import Subparsers, declare, defaulted, figure
from zerotide.cli.session import Session
from zerotide.scaling.prewarm.forecast import habits_of, week
from zerotide.scaling.prewarm.habits import Expected, Prices, worth_it
from zerotide.scaling.schedules import LONGEST_LEAD_US

WORTH = 7.0
"""Idle seconds of a replica that a second of waiting is worth: the chart's `operator.waitingWorth`."""


def add(plans: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        plans,
        "forecast",
        print_forecast,
        "say when an endpoint will be woken in the coming week",
        text="Find the hours of the week at which an endpoint's requests, as the exporter has them, woke it in two\n"
        "weeks or more, and say for each how likely it is and whether prewarming would start for it.",
        examples="""zerotide plan forecast smollm2
            zerotide plan forecast smollm2 --time-zone Europe/Rome --json""",
    )
    add_arguments(parser, since="1344h", zone_of="times")
    defaulted(parser, "--waiting-worth", figure, WORTH, "idle seconds that a second of waiting is worth")


async def print_forecast(session: Session, args: argparse.Namespace) -> None:
    """Print the coming week's habits, and what they would cost."""
    endpoint, arrivals, _, now_us = await recorded(session, args)
    prices = prices_of(endpoint, args.waiting_worth)
    found = week(habits_of(arrivals.requests, prices.idle_us), prices, now_us)
    if session.printer.as_json:
        told = [document(each, prices) for each in found]
        session.printer.json({"requests": len(arrivals.requests), "expected": told})
        return
    if found:
        header = ["WHEN", "UNTIL", "WEEKS", "LIKELY", "START", "COSTS-AT-MOST", "PREWARM"]
        session.printer.table(header, [row(each, prices, args.time_zone) for each in found])
    session.printer.prose(summary(endpoint, len(arrivals.requests), found, prices))


def prices_of(endpoint: InferenceEndpoint, worth: float) -> Prices:
    """Return what is weighed, as the operator weighs it; an assumed cold start before one was measured."""
    known = endpoint.status.cold_starts
    cold_us = parse_duration(known.p50) if known and known.p50 else int(COLD_S * SECOND)
    lead_us = parse_duration(known.p90) if known and known.p90 else cold_us
    return Prices(min(lead_us, LONGEST_LEAD_US), int(cold_us * worth), endpoint.spec.scaling.idle.timeout.us)


def row(found: Expected, prices: Prices, zone: str) -> list[str]:
    """Return the line of one habit."""
    return [
        _local(found.start_us, zone, "%a %Y-%m-%d %H:%M"),
        _local(found.end_us, zone, "%H:%M"),
        f"{found.weeks} of {found.of}",
        f"{found.confidence:.0%}",
        _local(found.from_us, zone, "%H:%M:%S"),
        format_duration(found.most_us // SECOND * SECOND),
        "yes" if worth_it(found, prices) else "no",
    ]


def document(found: Expected, prices: Prices) -> dict[str, Any]:
    """Return one habit as data."""
    return {
        "start": format_time(found.from_us),
        "from": format_time(found.start_us),
        "to": format_time(found.end_us),
        "weeks": found.weeks,
        "of": found.of,
        "likely": round(found.confidence, 3),
        "costsAtMostSeconds": found.most_us / SECOND,
        "worthIt": worth_it(found, prices),
    }


def summary(endpoint: InferenceEndpoint, requests: int, found: tuple[Expected, ...], prices: Prices) -> str:
    """Return what it comes to, and what to do about it."""
    told = f"{counted(requests, 'request')}, {counted(len(found), 'habit')} in the coming week"
    worth = sum(worth_it(each, prices) for each in found)
    if not found:
        return f"{told}: no hour of the week woke it in two weeks or more."
    mode = endpoint.spec.scaling.prewarm.mode
    hint = "" if mode == "Enabled" else f" (scaling.prewarm.mode is {mode})"
    return f"{told}: a start ahead is worth it for {worth}{hint}."


def _local(time_us: int, name: str, form: str) -> str:
    return local(time_us, zone(name)).strftime(form)
