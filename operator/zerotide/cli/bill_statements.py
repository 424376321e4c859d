"""`zerotide bill usage`, `explain`, `verify`, `focus`, `rate`: who used what, why it costs so much, is it right."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from decimal import Decimal

from zerotide.api.base import format_time, parse_time
from zerotide.billing.focus import FocusReport
from zerotide.billing.focus_columns import VERSIONS
from zerotide.billing.rollups import UsageReport
from zerotide.billing.statements import Check, Evidence, Explanation, RateReport, Verification
from zerotide.cli.bill_csv import focus_rows
from zerotide.cli.bill_period import add_period, checked, query_of
from zerotide.cli.bill_text import money, monies
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.output import Printer, count, format_span, format_table
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session

DIFFERENCES = 7
"""The exit code of `verify` when a law is broken."""


def add(bills: Subparsers) -> None:
    """Declare the commands."""
    parser = declare(
        bills,
        "usage",
        usage,
        "print requests and tokens by endpoint and consumer",
        text="Print requests and tokens by endpoint and consumer, from sums; with --raw from the requests\nthemselves, "
        "which are read from the archive where there is one. The two are equal.",
        examples="""zerotide bill usage -A --for "this year"
            zerotide bill usage -A --for "last month" --raw""",
    )
    add_period(parser)
    parser.add_argument("--raw", action="store_true", help="from the requests themselves instead of sums")
    parser = declare(
        bills,
        "explain",
        explain,
        "print what the charges for replicas are made of, back to the recorded facts",
        examples="""zerotide bill explain smollm2 --since 2h
            zerotide bill explain smollm2 --for yesterday --phase loading --json""",
    )
    add_period(parser)
    parser.add_argument("--consumer", metavar="NAMESPACE/NAME", help="only what this one pays")
    parser.add_argument("--phase", help="only this phase, such as loading")
    parser = declare(
        bills,
        "verify",
        verify,
        "fold all facts anew and check every law of the ledger on them",
        text="Fold all facts anew and check every law of the ledger on them; exit 7 when one is broken.",
        examples='zerotide bill verify -A --for "this year"',
    )
    add_period(parser)
    parser = declare(
        bills,
        "focus",
        focus,
        "print bills as FOCUS, the FinOps Open Cost and Usage Specification, in CSV",
        examples='zerotide bill focus -A --for "last month" --version 1.2 > focus.csv',
    )
    add_period(parser)
    parser.add_argument("--version", choices=VERSIONS, default=VERSIONS[0], help="of the specification")
    parser = declare(
        bills,
        "rate",
        rate,
        "print what the same usage costs by other price books",
        text="Print what the same usage costs by other price books: the market's, or ours (the cluster's) as it was.",
        examples="""zerotide bill rate smollm2 --for "last month"
            zerotide bill rate -A --book ours --as-of 2026-01-01""",
    )
    add_period(parser)
    parser.add_argument("--book", action="append", default=[], metavar="NAME", help="only this book; may be repeated")
    parser.add_argument("--as-of", type=checked(parse_time), metavar="TIME", help="by the prices that held then")


async def usage(session: Session, args: argparse.Namespace) -> None:
    """Print a line for each endpoint and consumer."""
    printer = session.printer
    query = {**await query_of(session, args), **({"raw": "true"} if args.raw else {})}
    report = await fetch(session, UsageReport, "usage", query)
    if printer.as_json:
        printer.json(report.dump())
        return
    if not report.rows:
        printer.prose(f"No requests were served in {await session.where()} in that period.")
        return
    header = ["ENDPOINT", "CONSUMER", "REQUESTS", "IN", "CACHED", "OUT", "ESTIMATED"]
    body = [
        [
            f"{row.namespace}/{row.endpoint}",
            row.consumer,
            str(row.requests),
            str(row.input_tokens),
            str(row.cached_tokens),
            str(row.output_tokens),
            str(row.estimated_output_tokens),
        ]
        for row in report.rows
    ]
    printer.table(header, body, right=" ".join(header[2:]))


async def explain(session: Session, args: argparse.Namespace) -> None:
    """Print contributions and, below them, the facts of each pod that contributed."""
    printer = session.printer
    report = await fetch(session, Explanation, "explain", await query_of(session, args))
    chosen = tuple(
        each
        for each in report.contributions
        if args.consumer in (None, each.consumer) and args.phase in (None, each.phase)
    )
    uids = {each.pod_uid for each in chosen}
    total = sum((Decimal(each.amount) for each in chosen), Decimal(0))
    shown = report.model_copy(
        update={
            "contributions": chosen,
            "pods": tuple(pod for pod in report.pods if pod.pod_uid in uids),
            "total": f"{total:f}",
            "corrections": tuple(
                each
                for each in report.corrections
                if args.consumer in (None, each.consumer) and args.phase in (None, each.phase)
            ),
        }
    )
    if printer.as_json:
        printer.json(shown.dump())
        return
    if not (shown.pods or shown.corrections):
        printer.prose(f"No replica of {await session.where()} is charged for in that period.")
        return
    for pod in shown.pods:
        for line in explained(shown, pod):
            printer.data(line)
    for line in corrected(shown):
        printer.data(line)
    printer.prose(f"{count(len(shown.pods), 'replica')}, {report.currency} {money(shown.total)}.")


def explained(report: Explanation, pod: Evidence) -> list[str]:
    """Return one pod's charges and the facts behind them."""
    mine = [each for each in report.contributions if each.pod_uid == pod.pod_uid]
    amounts = monies([each.amount for each in mine])
    charges = [
        [
            each.phase,
            each.consumer,
            each.class_name or each.meter,
            each.quantity,
            each.unit,
            each.price or "none",
            amount,
        ]
        for each, amount in zip(mine, amounts, strict=True)
    ]
    header = ["PHASE", "CONSUMER", "WHAT", "QUANTITY", "UNIT", "PRICE", report.currency]
    segments = [
        [each.phase, format_time(each.from_us), format_time(each.to_us), format_span(each.to_us - each.from_us)]
        for each in pod.segments
    ]
    facts = [[format_time(fact.time_us), fact.kind, fact.key or " "] for fact in pod.facts]
    flags = f", {', '.join(flag.replace('_', ' ') for flag in pod.flags)}" if pod.flags else ""
    return [
        f"{pod.namespace}/{pod.pod} ({pod.pod_uid}), {count(pod.requests, 'request')}, {pod.ended or 'lives'}{flags}",
        *format_table(header, charges, right=["QUANTITY", report.currency]),
        "",
        *format_table(["SEGMENT", "FROM", "TO", "TIME"], segments, right=["TIME"]),
        "",
        *format_table(["TIME", "FACT", "WHAT IT SAYS"], facts),
        "",
    ]


def corrected(report: Explanation) -> list[str]:
    """Return the corrections of the period, and those that were posted in it."""
    if not report.corrections:
        return []
    header = ["POSTED", "CORRECTS", "ENDPOINT", "PHASE", "CONSUMER", "WHAT", "QUANTITY", "UNIT", report.currency]
    amounts = monies([each.amount for each in report.corrections])
    body = [
        [
            format_time(each.posted_us),
            format_time(each.of_us),
            f"{each.namespace}/{each.endpoint}",
            each.phase or " ",
            each.consumer,
            each.class_name or each.meter,
            each.quantity,
            each.unit,
            amount,
        ]
        for each, amount in zip(report.corrections, amounts, strict=True)
    ]
    return [*format_table(header, body, right=["QUANTITY", report.currency]), ""]


async def verify(session: Session, args: argparse.Namespace) -> int:
    """Print each law and what breaks it; 7 when anything does."""
    printer = session.printer
    report = await fetch(session, Verification, "verify", await query_of(session, args))
    if printer.as_json:
        printer.json(report.dump())
    else:
        print_checks(printer, report.checks)
    return DIFFERENCES if report.differences else 0


def print_checks(printer: Printer, checks: Sequence[Check]) -> None:
    """Print each law and what breaks it."""
    rows = [[check.law, str(check.checked), str(len(check.differences))] for check in checks]
    printer.table(["LAW", "CHECKED", "BROKEN"], rows, right="CHECKED BROKEN")
    for check in checks:
        for difference in check.differences:
            printer.data(f"{check.law}: {difference}")
    found = sum(len(check.differences) for check in checks)
    printer.prose(f"{count(found, 'difference')}." if found else "Every law holds.")


async def focus(session: Session, args: argparse.Namespace) -> None:
    """Print a row for each line and day."""
    printer, query = session.printer, await query_of(session, args)
    report = await fetch(session, FocusReport, "focus", {**query, "version": args.version})
    if printer.as_json:
        printer.json([dict(zip(report.columns, row, strict=True)) for row in report.rows])
        return
    for row in focus_rows(report):
        printer.data(row)


async def rate(session: Session, args: argparse.Namespace) -> None:
    """Print a line for each book."""
    printer, query = session.printer, await query_of(session, args)
    if args.as_of is not None:
        query["asOf"] = str(args.as_of)
    if args.book:
        query["book"] = ",".join(args.book)
    report = await fetch(session, RateReport, "rate", query)
    if printer.as_json:
        printer.json(report.dump())
        return
    totals = monies([book.total for book in report.books])
    body = [
        [book.book, book.currency, total, ", ".join(book.unpriced) or " "]
        for book, total in zip(report.books, totals, strict=True)
    ]
    printer.table(["BOOK", "CURRENCY", "TOTAL", "NO PRICE FOR"], body, right="TOTAL")
