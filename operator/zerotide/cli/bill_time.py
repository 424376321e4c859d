"""`zerotide bill time`: how long replicas were in each phase, by day or hour."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, tzinfo

from zerotide.api.base import format_time
from zerotide.billing.periods import local
from zerotide.billing.times import BY, TimeReport, TimeRow
from zerotide.cli.bill_period import add_period, query_of
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.output import format_table
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session

UNITS = {"AcceleratorTime": "device-seconds", "CPUTime": "core-seconds", "MemoryTime": "GiB-seconds"}


def add(bills: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        bills,
        "time",
        time,
        "print how long replicas were in each phase",
        text="Print how long replicas were in each phase, from sums as far as time is sealed.",
        examples="""zerotide bill time -A --for "last month"
            zerotide bill time smollm2 --for yesterday --by hour --time-zone Europe/Rome""",
    )
    add_period(parser)
    parser.add_argument("--by", choices=BY, default=BY[0], help="whole, or cut at days or hours of the time zone")


async def time(session: Session, args: argparse.Namespace) -> None:
    """Print a line for each slice, endpoint and phase."""
    printer = session.printer
    query = {**await query_of(session, args), "by": args.by, "timeZone": str(args.time_zone)}
    report = await fetch(session, TimeReport, "time", query)
    if printer.as_json:
        printer.json(report.dump())
        return
    if not report.rows:
        printer.prose(f"No replica of {await session.where()} ran in that period.")
    for line in time_lines(report.rows, args.time_zone):
        printer.data(line)


def time_lines(rows: Sequence[TimeRow], where: tzinfo = UTC) -> list[str]:
    """Return a line for each row, the slices' starts as they are in a time zone; none where there are none."""
    header = ["FROM", "ENDPOINT", "PHASE", "WHAT", "QUANTITY", "UNIT"]
    body = [
        [
            _shown(row.from_us, where),
            f"{row.namespace}/{row.endpoint}",
            row.phase,
            row.class_name or row.meter,
            row.seconds,
            UNITS[row.meter],
        ]
        for row in rows
    ]
    return format_table(header, body, right=["QUANTITY"]) if body else []


def _shown(t_us: int, where: tzinfo) -> str:
    if where is UTC:
        return format_time(t_us)
    return local(t_us, where).isoformat("T", "seconds")
