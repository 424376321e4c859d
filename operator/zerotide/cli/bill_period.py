"""The period that a bill is about, as the command line says it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, tzinfo

from zerotide.api.base import parse_time
from zerotide.api.failures import ApiError
from zerotide.api.scalars import parse_duration
from zerotide.billing.errors import BillingError
from zerotide.billing.periods import FORMS, named_period, zone
from zerotide.billing.rating import Period
from zerotide.cli.errors import UsageError
from zerotide.cli.session import Session


def add_period(parser: argparse.ArgumentParser, *, named: bool = True) -> None:
    """Declare the endpoint and the period that a command is about."""
    if named:
        parser.add_argument("name", nargs="?", help="the endpoint; default: all of the namespace")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--for", dest="period", metavar="PERIOD", help=FORMS)
    start.add_argument("--since", type=checked(parse_duration), metavar="TIME", help="the last so long, such as 24h")
    start.add_argument(
        "--from", dest="start", type=checked(parse_time), metavar="TIME", help="default: the month's first instant"
    )
    parser.add_argument("--to", dest="end", type=checked(parse_time), metavar="TIME", help="default: now")
    where = "where days begin, such as Europe/Rome; default: UTC"
    parser.add_argument("--time-zone", type=_zone, default=UTC, metavar="ZONE", help=where)


def period_of(args: argparse.Namespace, now_us: int) -> Period:
    """Return the period; raise UsageError for a name that means none, or one that ends before it starts."""
    where: tzinfo = args.time_zone
    try:
        if args.period:
            if args.end is not None:
                raise UsageError("--for names a whole period: leave --to out, or say --from")
            return named_period(args.period, now_us, where)
        start = now_us - args.since if args.since else args.start
        start = named_period("this month", now_us, where).start_us if start is None else start
        return Period(start, now_us if args.end is None else args.end).checked()
    except BillingError as error:
        raise UsageError(str(error)) from error


async def query_of(session: Session, args: argparse.Namespace) -> dict[str, str]:
    """Return what the exporter is asked with."""
    period = period_of(args, session.clock.now_us())
    return {
        "namespace": await session.scope() or "",
        "endpoint": getattr(args, "name", None) or "",
        "from": str(period.start_us),
        "to": str(period.end_us),
    }


def checked(parse: Callable[[str], int]) -> Callable[[str], int]:
    """Return a parser of arguments whose errors argparse shows; a bare day is its first instant, UTC."""

    def parsed(text: str) -> int:
        try:
            day = parse is parse_time and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
            return parse(f"{text}T00:00:00Z" if day else text)
        except ApiError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def _zone(text: str) -> tzinfo:
    try:
        return zone(text)
    except BillingError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
