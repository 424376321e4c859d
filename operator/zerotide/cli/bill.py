"""`zerotide bill cost` and `coldstarts`: what endpoints used, what that costs, how their wakes went."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from zerotide.api.base import format_time, parse_time
from zerotide.api.failures import ApiError
from zerotide.api.scalars import SECOND, parse_duration
from zerotide.billing.reports import ColdStartReport, CostReport, EndpointCost, PodSegments, SegmentReport, WakeCost
from zerotide.cli.commands import Subparsers, declare, group
from zerotide.cli.output import format_age, format_number, format_span, format_table
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
        printer.table(
            COST_HEADER,
            [cost_row(endpoint, session.all_namespaces) for endpoint in report.endpoints],
            right="COST ALWAYS-ON",
        )
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


COST_HEADER = ["ENDPOINT", "ACCELERATOR", "REPLICAS", "ALLOCATED", "ACTIVE", "REQUESTS", "COST", "ALWAYS-ON"]


def cost_row(endpoint: EndpointCost, with_namespace: bool = False) -> list[str]:
    """Return one endpoint's line in the table of costs."""
    name = f"{endpoint.namespace}/{endpoint.endpoint}" if with_namespace else endpoint.endpoint
    active = sum(phase.replica_us for phase in endpoint.phases if phase.phase == "active")
    return [
        name,
        f"{endpoint.units} × {endpoint.accelerator}" if endpoint.accelerator else "CPU",
        str(endpoint.replicas),
        format_span(sum(phase.replica_us for phase in endpoint.phases)),
        format_span(active),
        str(endpoint.tokens.requests),
        money(endpoint.total),
        money(endpoint.always_on),
    ]


def cost_lines(endpoint: EndpointCost, currency: str, period: str) -> list[str]:
    """Return one endpoint's bill as people read it."""
    lines = [
        f"{endpoint.namespace}/{endpoint.endpoint}, {period}",
        "",
        *_phases(endpoint, currency),
        "",
        f"One replica always on would have cost {currency} {money(endpoint.always_on)}.",
    ]
    tokens = endpoint.tokens
    if tokens.requests:
        each = f", {currency} {money(endpoint.per_million_tokens)} per million" if endpoint.per_million_tokens else ""
        lines.append(f"{tokens.requests} requests, {tokens.input} tokens in, {tokens.output} out{each}.")
    if endpoint.consumers:
        rows = [
            [
                c.consumer,
                format_span(c.active_us),
                str(c.requests),
                f"{c.input_tokens} + {c.output_tokens}",
                money(c.amount),
            ]
            for c in endpoint.consumers
        ]
        header = ["CONSUMER", "ACTIVE", "REQUESTS", "TOKENS", currency]
        lines += ["", *format_table(header, rows, right=header[1:])]
    return [*lines, *(f"Note: {note}" for note in endpoint.notes)]


def _phases(endpoint: EndpointCost, currency: str) -> list[str]:
    gpu = any(Decimal(phase.accelerator_seconds) for phase in endpoint.phases)
    header = ["PHASE", "TIME", *(["GPU-SECONDS"] if gpu else ["CPU-SECONDS", "GIB-SECONDS"]), currency]
    rows = []
    for phase in endpoint.phases:
        used = [phase.accelerator_seconds] if gpu else [phase.cpu_seconds, phase.memory_gib_seconds]
        numbers = [format_number(Decimal(number), 2) for number in used]
        rows.append([phase.phase, format_span(phase.replica_us), *numbers, money(phase.amount)])
    if Decimal(endpoint.tokens.amount):
        rows.append(["tokens", *[""] * (len(header) - 2), money(endpoint.tokens.amount)])
    rows.append(
        [
            "total",
            format_span(sum(p.replica_us for p in endpoint.phases)),
            *[""] * (len(header) - 3),
            money(endpoint.total),
        ]
    )
    return format_table(header, rows, right=header[1:])


def segment_lines(pods: tuple[PodSegments, ...], newest: int | None) -> list[str]:
    """Return the segments of replicas, the newest last; None shows all of them."""
    shown = pods if newest is None else pods[-newest:]
    if not shown:
        return []
    rows = []
    for pod in shown:
        name = f"{pod.pod}{f' ({pod.ended})' if pod.ended else ' (lives)'}"
        for number, segment in enumerate(pod.segments):
            span = format_span(segment.to_us - segment.from_us)
            rows.append(["" if number else name, format_time(segment.from_us), segment.phase, span])
    left = len(pods) - len(shown)
    more = [f"{left} older replicas; --segments shows them."] if left else []
    return ["", *_blank_repeats(format_table(["REPLICA", "FROM", "PHASE", "TIME"], rows, right=["TIME"])), *more]


def _blank_repeats(lines: list[str]) -> list[str]:
    # An empty cell prints as "-", which a repeated name is not.
    return [f" {line[1:]}" if line.startswith("- ") else line for line in lines]


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
    printer.prose(f"{len(report.wakes)} wakes cost {report.currency} {money(report.amount)}.")


def wake_lines(report: ColdStartReport, now_us: int) -> list[str]:
    """Return the table of the wakes, newest first, with median and p90 of each stage under it."""
    stages = [stage.name for stage in report.summary if stage.name != "total"]
    header = ["ENDPOINT", "AGE", "CAUSE", *(stage.upper() for stage in stages), "TOTAL", report.currency]
    rows = [_wake_row(wake, stages, now_us) for wake in report.wakes]
    if len(rows) > 1:
        spread = {stage.name: stage for stage in report.summary}
        p50 = [format_span(spread[name].p50_us) for name in (*stages, "total") if name in spread]
        p90 = [format_span(spread[name].p90_us) for name in (*stages, "total") if name in spread]
        rows += [["median", "", "", *p50, ""], ["p90", "", "", *p90, ""]]
    return format_table(header, rows, right=header[3:])


def _wake_row(wake: WakeCost, stages: list[str], now_us: int) -> list[str]:
    took = {stage.name: format_span(stage.us) for stage in wake.stages}
    return [
        f"{wake.namespace}/{wake.endpoint}",
        format_age(format_time(wake.time_us), now_us),
        wake.cause,
        *(took.get(stage, "") for stage in stages),
        format_span(wake.total_us),
        money(wake.amount) if wake.amount is not None else "",
    ]


def money(amount: str) -> str:
    """Return an amount with cents, and with as many more digits as a small one needs to be seen."""
    value = Decimal(amount)
    if value == 0:
        return "0.00"
    digits = max(2, 1 - value.adjusted()) if abs(value) < 1 else 2
    return f"{value:.{min(digits, 9)}f}"
