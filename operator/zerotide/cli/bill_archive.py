"""`zerotide bill archive`: which days of the ledger lie in Parquet files, and whether they are right."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from zerotide.api.base import format_time
from zerotide.billing.archives import ArchivedDay, ArchiveReport
from zerotide.cli.bill_period import add_period, period_of
from zerotide.cli.bill_statements import DIFFERENCES, print_checks
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.errors import Missing
from zerotide.cli.output import count, format_table
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session


def add(bills: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        bills,
        "archive",
        archive,
        "print which days of the ledger are archived as Parquet, and check them",
        text="Print which days of the ledger, of all namespaces, are archived as Parquet.\nWith --check, read every "
        "file and compare it with its digest, its manifest and the ledger;\nexit 7 when something differs.",
        examples="""zerotide bill archive --for "last month"
            zerotide bill archive --for "this year" --check""",
    )
    add_period(parser, named=False)
    parser.add_argument("--check", action="store_true", help="read every file and compare it with the ledger")


async def archive(session: Session, args: argparse.Namespace) -> int:
    """Print a line for each day; 7 when a check found a difference."""
    printer, period = session.printer, period_of(args, session.clock.now_us())
    query = {"from": str(period.start_us), "to": str(period.end_us), "check": "true" if args.check else ""}
    report = await fetch(session, ArchiveReport, "archive", query)
    if not report.enabled:
        raise Missing("the exporter keeps no archive: set the chart value exporter.archive.enabled")
    if printer.as_json:
        printer.json(report.dump())
        return DIFFERENCES if report.differences else 0
    for line in day_lines(report.days):
        printer.data(line)
    printer.prose(f"{count(len(report.days), 'day')} archived.")
    if args.check:
        print_checks(printer, report.checks)
    return DIFFERENCES if report.differences else 0


def day_lines(days: Sequence[ArchivedDay]) -> list[str]:
    """Return a line for each day; none where there are none."""
    header = ["DAY", "REVISION", "REQUESTS", "SEGMENTS", "CHARGES", "BYTES", "SEAL", "MANIFEST"]
    rows = [
        [
            format_time(day.day_us)[:10],
            *map(str, (day.revision, day.requests, day.segments, day.charges, day.bytes, day.seal)),
            day.digest[:12],
        ]
        for day in days
    ]
    return format_table(header, rows, right=header[1:7]) if rows else []
