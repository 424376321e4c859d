"""`zerotide bill cost` and `coldstarts`: what endpoints used, what that costs, how their wakes went."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime

from zerotide.api.base import format_time, parse_time
from zerotide.api.failures import ApiError
from zerotide.api.scalars import SECOND, parse_duration
from zerotide.billing.reports import ColdStartReport, CostReport, SegmentReport
from zerotide.cli.bill_text import cost_lines, cost_table, money, segment_lines, wake_lines
from zerotide.cli.commands import Subparsers, declare, group
from zerotide.cli.output import count
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session

NEWEST = 5
"""Replicas whose segments are shown unless all are asked for."""


def add(commands: Subparsers) -> None:
    """Declare the commands."""
    bills = group(commands, "bill", "show what endpoints used and what it costs")
    parser = declare(
        bills,
        "cost",
        cost,
        "print what endpoints used, by phase, and what that costs",
        text="Print what endpoints used in each phase and what it costs; with a name, its replicas' segments too.",
        examples="""zerotide bill cost -A
            zerotide bill cost smollm2 --since 24h
            zerotide bill cost smollm2 --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --json""",
    )
    _period(parser)
    parser.add_argument("--segments", action="store_true", help=f"segments of all replicas, not the newest {NEWEST}")
    parser = declare(
        bills,
        "coldstarts",
        coldstarts,
        "print the wakes of endpoints with their stages and costs",
        examples="zerotide bill coldstarts smollm2 --since 24h",
    )
    _period(parser)


def _period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="the endpoint; default: all of the namespace")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--since", type=_checked(parse_duration), metavar="TIME", help="the last so long, such as 24h")
    start.add_argument(
        "--from", dest="start", type=_checked(parse_time), metavar="TIME", help="default: the month's first day, UTC"
    )
    parser.add_argument("--to", dest="end", type=_checked(parse_time), metavar="TIME", help="default: now")


def _checked(parse: Callable[[str], int]) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        try:
            # A bare day is its first instant.
            day = parse is parse_time and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
            return parse(f"{text}T00:00:00Z" if day else text)
        except ApiError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


async def _query(session: Session, args: argparse.Namespace) -> dict[str, str]:
    now_us = session.clock.now_us()
    start = now_us - args.since if args.since else args.start if args.start is not None else month_start(now_us)
    end = args.end if args.end is not None else now_us
    return {
        "namespace": await session.scope() or "",
        "endpoint": args.name or "",
        "from": format_time(start),
        "to": format_time(end + SECOND - 1),
    }


def month_start(now_us: int) -> int:
    """Return the first instant of a moment's month, UTC."""
    now = datetime.fromtimestamp(now_us // SECOND, UTC)
    return int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp()) * SECOND


async def cost(session: Session, args: argparse.Namespace) -> None:
    """Print one endpoint in full, or a line for each."""
    query, printer = await _query(session, args), session.printer
    report = await fetch(session, CostReport, "cost", query)
    if printer.as_json:
        printer.json(report.model_dump(mode="json", by_alias=True))
        return
    period = f"{format_time(report.from_us)} to {format_time(report.to_us)}"
    if not report.endpoints:
        printer.prose(f"Nothing was used in {await session.where()} from {period}.")
        return
    if not args.name:
        for line in cost_table(report.endpoints, session.all_namespaces):
            printer.data(line)
        printer.prose(
            f"{report.currency} {money(report.total)} from {period}; "
            f"one replica each, always on: {money(report.always_on)}."
        )
        return
    segments = await fetch(session, SegmentReport, "segments", query)
    for endpoint in report.endpoints:
        for line in cost_lines(endpoint, report.currency, period):
            printer.data(line)
        for line in segment_lines(segments.pods, None if args.segments else NEWEST):
            printer.data(line)


async def coldstarts(session: Session, args: argparse.Namespace) -> None:
    """Print a line for each wake, and how their stages are spread."""
    query, printer = await _query(session, args), session.printer
    report = await fetch(session, ColdStartReport, "coldstarts", query)
    if printer.as_json:
        printer.json(report.model_dump(mode="json", by_alias=True))
        return
    if not report.wakes:
        printer.prose(f"No wakes in {await session.where()} since {query['from']}.")
        return
    for line in wake_lines(report, session.clock.now_us()):
        printer.data(line)
    printer.prose(f"{count(len(report.wakes), 'wake')} cost {report.currency} {money(report.amount)}.")
