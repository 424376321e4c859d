"""`zerotide bill invoice`: what each consumer owes, with corrections of what earlier invoices said."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from datetime import UTC, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal

from zerotide.api.base import format_time
from zerotide.billing.periods import local
from zerotide.billing.statements import BilledLine, CorrectionLine, InvoiceReport, TermLine
from zerotide.cli.bill_csv import invoice_rows
from zerotide.cli.bill_period import add_period, query_of
from zerotide.cli.bill_text import monies
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.output import count, format_number, format_table
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session

CENT = Decimal("0.01")


def add(bills: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        bills,
        "invoice",
        invoice,
        "print what each consumer owes",
        examples="""zerotide bill invoice -A --for "last month" --time-zone Europe/Rome
            zerotide bill invoice --consumer demo/team-a --for 2026-10 --csv""",
    )
    add_period(parser, named=False)
    parser.add_argument("--consumer", metavar="NAMESPACE/NAME", help="only this one's")
    parser.add_argument("--csv", action="store_true", help="print the lines as CSV")


async def invoice(session: Session, args: argparse.Namespace) -> None:
    """Print an invoice for each consumer."""
    printer = session.printer
    query = {**await query_of(session, args), "timeZone": str(args.time_zone)}
    report = await fetch(session, InvoiceReport, "invoice", query)
    consumers = sorted(_all(report) & ({args.consumer} if args.consumer else _all(report)))
    if args.csv:
        for row in invoice_rows(report, _due(report, consumers)):
            printer.data(row)
        return
    if printer.as_json:
        printer.json([invoice_of(report, consumer) for consumer in consumers])
        return
    if not consumers:
        printer.prose(f"Nobody owes anything in {await session.where()} for that period.")
    for number, consumer in enumerate(consumers):
        for line in [*([""] if number else []), *invoice_lines(report, consumer, args.time_zone)]:
            printer.data(line)


def _all(report: InvoiceReport) -> set[str]:
    named = {line.consumer for line in report.terms} | {each.consumer for each in report.elsewhere}
    return {line.consumer for line in _lines(report)} | named | {each.consumer for each in report.unrecorded}


def _lines(report: InvoiceReport) -> tuple[BilledLine, ...]:
    return (*report.lines, *report.corrections)


Due = Sequence[BilledLine | TermLine]


def _due(report: InvoiceReport, consumers: Collection[str]) -> list[BilledLine | TermLine]:
    lines: list[BilledLine | TermLine] = [line for line in _lines(report) if line.consumer in consumers]
    return lines + [line for line in report.terms if line.consumer in consumers]


def payable(lines: Due) -> tuple[Decimal, Decimal]:
    """Return the exact sum of lines, and what is to be paid: whole cents, half to even."""
    total = sum((Decimal(line.amount) for line in lines), Decimal(0))
    return total, total.quantize(CENT, ROUND_HALF_EVEN)


def invoice_of(report: InvoiceReport, consumer: str) -> dict[str, object]:
    """Return a consumer's invoice as JSON."""
    terms = [line for line in report.terms if line.consumer == consumer]
    total, due = payable(_due(report, {consumer}))
    return {
        "consumer": consumer,
        "from": format_time(report.from_us),
        "to": format_time(report.to_us),
        "sealedUntil": format_time(report.sealed_until_us),
        "currency": report.currency,
        "lines": [line.dump() for line in report.lines if line.consumer == consumer],
        "corrections": [line.dump() for line in report.corrections if line.consumer == consumer],
        "terms": [line.dump() for line in terms],
        "otherCurrencies": [each.dump() for each in report.elsewhere if each.consumer == consumer],
        "unrecorded": [each.dump() for each in report.unrecorded if each.consumer == consumer],
        "sum": f"{total:f}",
        "rounding": f"{due - total:f}",
        "payable": f"{due:f}",
    }


def invoice_lines(report: InvoiceReport, consumer: str, where: tzinfo = UTC) -> list[str]:
    """Return a consumer's invoice as people read it, with corrected months as they are in a time zone."""
    lines = [line for line in _lines(report) if line.consumer == consumer]
    terms = [line for line in report.terms if line.consumer == consumer]
    owed = _due(report, {consumer})
    total, due = payable(owed)
    corrects = any(isinstance(line, CorrectionLine) for line in lines)
    header = ["ENDPOINT", "WHAT", "PHASE", "QUANTITY", "UNIT", "PRICE", report.currency]
    *amounts, whole = monies([*(line.amount for line in owed), f"{total:f}"])
    body = [
        [
            f"{line.namespace}/{line.endpoint}",
            line.class_name or line.meter,
            line.phase or " ",
            format_number(Decimal(line.quantity), 2),
            line.unit,
            f"{line.unit_price} per {line.per}" if line.price else "none",
            amount,
            *([_month(line, where)] if corrects else []),
        ]
        for line, amount in zip(lines, amounts[: len(lines)], strict=True)
    ]
    body += [
        [
            f"{line.type} {line.name}",
            " ",
            " ",
            format_number(Decimal(line.quantity), 2),
            line.unit,
            " ",
            amount,
            *([" "] if corrects else []),
        ]
        for line, amount in zip(terms, amounts[len(lines) :], strict=True)
    ]
    body.append(["sum", " ", " ", " ", " ", " ", whole, *([" "] if corrects else [])])
    return [
        f"Invoice for {consumer}, {format_time(report.from_us)} to {format_time(report.to_us)}",
        "",
        *format_table([*header, *(["CORRECTS"] if corrects else [])], body, right=["QUANTITY", report.currency]),
        "",
        f"Payable: {report.currency} {due} (rounded by {due - total:f}).",
        *(
            f"Not on it: {each.currency} {each.amount}, charged by a price book in that currency."
            for each in report.elsewhere
            if each.consumer == consumer
        ),
        *(
            f"Not on it: {count(each.requests, 'request')} or more to {each.namespace}/{each.endpoint}, "
            "which could not be recorded."
            for each in report.unrecorded
            if each.consumer == consumer
        ),
        *_unsealed(report),
    ]


def _month(line: BilledLine, where: tzinfo) -> str:
    if not isinstance(line, CorrectionLine):
        return " "
    return f"{local(line.of_from_us, where):%Y-%m}"


def _unsealed(report: InvoiceReport) -> list[str]:
    if report.sealed_until_us >= report.to_us:
        return []
    since = format_time(max(report.sealed_until_us, report.from_us))
    return [f"Not sealed since {since}: what came after it may still change."]
