"""What plans made of an endpoint's own requests share: their options, and the requests as the exporter has them."""

from __future__ import annotations

import argparse
import zlib
from decimal import Decimal
from gzip import GzipFile
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from zerotide.api.base import format_time
from zerotide.api.bounds import Zone
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND
from zerotide.billing.reports import ArrivalReport, CostReport
from zerotide.cli.commands import defaulted, lasting
from zerotide.cli.errors import CliError
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session
from zerotide.kube.resources import INFERENCE_ENDPOINTS
from zerotide.scaling.replay.trace import COLUMNS, Row, read

COLD_S = 30.0
"""What a cold start is taken for before one was measured."""
TRACE = f"CSV with the columns {', '.join(COLUMNS)}, packed by gzip or not"
"""What a command says of the file that it takes."""
_GZIP = b"\x1f\x8b"


class Recorded(NamedTuple):
    """An endpoint, its requests of a period that ends now, and what else is to be asked of that period."""

    endpoint: InferenceEndpoint
    arrivals: ArrivalReport
    query: dict[str, str]
    now_us: int


def add_arguments(parser: argparse.ArgumentParser, *, since: str, zone_of: str) -> None:
    """Declare which endpoint's requests are taken, of how long, and a time zone: `zone_of` says what is told in it."""
    parser.add_argument("name", help="the endpoint")
    defaulted(parser, "--since", lasting, since, "the last so long", "TIME")
    defaulted(parser, "--time-zone", _zone, "UTC", f"of {zone_of}", "ZONE")


async def recorded(session: Session, args: argparse.Namespace) -> Recorded:
    """Return what the options that `add_arguments` declares ask for."""
    endpoint = InferenceEndpoint.parse(await session.get(INFERENCE_ENDPOINTS, args.name))
    now_us = session.clock.now_us()
    whose = {"namespace": endpoint.metadata.namespace, "endpoint": args.name}
    query = {**whose, "from": format_time(now_us - args.since), "to": format_time(now_us)}
    return Recorded(endpoint, await fetch(session, ArrivalReport, "arrivals", query), query, now_us)


def replica_price(cost: CostReport) -> float | None:
    """Return what a second of a replica was billed, in the phase that took longest; None where none was."""
    phases = [phase for each in cost.endpoints for phase in each.phases if Decimal(phase.amount) > 0]
    longest = max(phases, key=lambda phase: phase.replica_us, default=None)
    return float(Decimal(longest.amount)) * SECOND / longest.replica_us if longest else None


def read_trace(path: Path) -> list[Row]:
    """Return the requests of a trace, packed by gzip or not.

    Raises CliError for a file that cannot be read, InvalidTrace for one that is no trace.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.peek(len(_GZIP)).startswith(_GZIP)
            # A spreadsheet begins a file with a mark of its encoding.
            with TextIOWrapper(GzipFile(fileobj=raw) if packed else raw, encoding="utf-8-sig", newline="") as lines:
                return read(lines)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise CliError(f"{path} cannot be unpacked: {error}") from error


def name_of(path: Path) -> str:
    """Return what a trace is called: its file's name without what says how it is written."""
    return Path(path.name.removesuffix(".gz")).stem


def _zone(text: str) -> str:
    if not Zone().holds(text):
        raise argparse.ArgumentTypeError(f"{text!r} {Zone().message}")
    return text
