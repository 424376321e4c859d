"""`zerotide bill cost` and `coldstarts`: what endpoints used, what that costs, how their wakes went."""

from __future__ import annotations

import argparse

from zerotide.api.base import format_time
from zerotide.billing.reports import ColdStartReport, CostReport, SegmentReport
from zerotide.billing.statements import LineReport
from zerotide.cli import bill_archive, bill_invoice, bill_statements, bill_time
from zerotide.cli.bill_csv import line_rows
from zerotide.cli.bill_period import add_period, query_of
from zerotide.cli.bill_text import cold_share, cost_lines, cost_table, money, segment_lines, wake_lines
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
            zerotide bill cost -A --for "last month" --time-zone Europe/Rome --csv
            zerotide bill cost smollm2 --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --json""",
    )
    add_period(parser)
    parser.add_argument("--csv", action="store_true", help="print every line of the bill as CSV")
    parser.add_argument("--segments", action="store_true", help=f"segments of all replicas, not the newest {NEWEST}")
    parser = declare(
        bills,
        "coldstarts",
        coldstarts,
        "print the wakes of endpoints with their stages and costs",
        examples="zerotide bill coldstarts smollm2 --since 24h",
    )
    add_period(parser)
    bill_invoice.add(bills)
    bill_statements.add(bills)
    bill_archive.add(bills)
    bill_time.add(bills)


async def cost(session: Session, args: argparse.Namespace) -> None:
    """Print one endpoint in full, or a line for each."""
    query, printer = await query_of(session, args), session.printer
    if args.csv:
        for row in line_rows(await fetch(session, LineReport, "lines", query)):
            printer.data(row)
        return
    report = await fetch(session, CostReport, "cost", query)
    if printer.as_json:
        printer.json(report.dump())
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
    query, printer = await query_of(session, args), session.printer
    report = await fetch(session, ColdStartReport, "coldstarts", query)
    if printer.as_json:
        printer.json(report.dump())
        return
    if not report.wakes:
        printer.prose(f"No wakes in {await session.where()} since {format_time(int(query['from']))}.")
        return
    for line in wake_lines(report, session.clock.now_us()):
        printer.data(line)
    printer.prose(
        f"{count(len(report.wakes), 'wake')} cost {report.currency} {money(report.amount)}{cold_share(report)}."
    )
