"""What plans made of an endpoint's own requests share: their options, and the requests as the exporter has them."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from zerotide.api.base import format_time, parse_duration
from zerotide.api.bounds import Zone
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.failures import InvalidDuration
from zerotide.billing.reports import ArrivalReport
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session
from zerotide.kube.resources import INFERENCE_ENDPOINTS

COLD_S = 30.0
"""What a cold start is taken for before one was measured."""


class Recorded(NamedTuple):
    """An endpoint, its requests of a period that ends now, and what else is to be asked of that period."""

    endpoint: InferenceEndpoint
    arrivals: ArrivalReport
    query: dict[str, str]
    now_us: int


def add_arguments(parser: argparse.ArgumentParser, *, since: str, zone_of: str) -> None:
    """Declare which endpoint's requests are taken, of how long, and a time zone: `zone_of` says what is told in it."""
    parser.add_argument("name", help="the endpoint")
    parser.add_argument("--since", type=_span, default=since, metavar="TIME", help="the last so long; %(default)s")
    parser.add_argument("--time-zone", type=_zone, default="UTC", metavar="ZONE", help=f"of {zone_of}; %(default)s")


async def recorded(session: Session, args: argparse.Namespace) -> Recorded:
    """Return what the options that `add_arguments` declares ask for."""
    endpoint = InferenceEndpoint.parse(await session.get(INFERENCE_ENDPOINTS, args.name))
    now_us = session.clock.now_us()
    whose = {"namespace": endpoint.metadata.namespace, "endpoint": args.name}
    query = {**whose, "from": format_time(now_us - args.since), "to": format_time(now_us)}
    return Recorded(endpoint, await fetch(session, ArrivalReport, "arrivals", query), query, now_us)


def _span(text: str) -> int:
    try:
        return parse_duration(text)
    except InvalidDuration as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _zone(text: str) -> str:
    if not Zone().holds(text):
        raise argparse.ArgumentTypeError(f"{text!r} {Zone().message}")
    return text
