"""`zerotide plan compare`: what an endpoint would cost, and how long requests would wait, each way that there is."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from zerotide.billing.elsewhere import offers
from zerotide.billing.prices import PriceIndex, read_price_books
from zerotide.cli.arrivals import TRACE
from zerotide.cli.commands import Subparsers, declare, defaulted, figure, lasting, whole
from zerotide.cli.compare_source import of_endpoint, of_nobody
from zerotide.cli.compare_text import document, notes, table
from zerotide.cli.errors import UsageError
from zerotide.cli.forecast import WORTH
from zerotide.cli.session import Session
from zerotide.scaling.compare import compare
from zerotide.scaling.replay.simulate import Prices


def add(plans: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        plans,
        "compare",
        print_comparison,
        "say what an endpoint would cost, and how long requests would wait, each way that there is",
        text="Run an endpoint's own requests, those of a trace or made-up ones on replicas that are always on, kept\n"
        "warm in part, sleep after a time, or sleep as the learned policy says, and price them: as billed here, and\n"
        "by the public prices of others, of the same replicas and of tokens. All costs are those of 730 hours.",
        examples="""zerotide plan compare smollm2
            zerotide plan compare smollm2 --max-replicas 4 --keep-warm 2 --idle 30s --idle 10m
            zerotide plan compare --rate 12 --input-tokens 800 --output-tokens 200 --class nvidia-h100-80gb
            zerotide plan compare --trace requests.csv --cold-start 1m --json""",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("name", nargs="?", help="the endpoint whose requests are taken, as the exporter has them")
    source.add_argument("--trace", type=Path, metavar="FILE", help=TRACE)
    source.add_argument("--rate", type=figure, metavar="N", help="made-up requests, so many an hour")
    defaulted(parser, "--since", lasting, "720h", "the endpoint's last so long", "TIME")
    parser.add_argument("--input-tokens", type=whole, metavar="N", help="of each request; default: as recorded")
    parser.add_argument("--output-tokens", type=whole, metavar="N", help="of each request; default: as recorded")
    defaulted(parser, "--seed", int, 1, "of made-up requests")
    replicas = parser.add_argument_group("replicas; default: as the endpoint has them")
    replicas.add_argument("--idle", type=lasting, action="append", metavar="TIME", help="sleep after it; repeatable")
    replicas.add_argument("--keep-warm", type=whole, action="append", metavar="N", help="keep so many; repeatable")
    replicas.add_argument("--max-replicas", type=whole, metavar="N", help="at most so many")
    replicas.add_argument("--target", type=whole, metavar="N", help="requests that each is to take at once")
    replicas.add_argument("--limit", type=whole, metavar="N", help="requests that each takes at once")
    replicas.add_argument("--cold-start", type=lasting, metavar="TIME", help="length of a start; default: as measured")
    prices = parser.add_argument_group("prices")
    prices.add_argument("--class", dest="class_name", metavar="NAME", help="class of the accelerators of a replica")
    prices.add_argument("--count", type=whole, metavar="N", help="how many there are in one")
    prices.add_argument("--gpu-second", type=figure, metavar="USD", help="price of a replica; default: as billed")
    said = "idle seconds that a second of waiting is worth to the learned policy"
    defaulted(prices, "--waiting-worth", figure, WORTH, said)


async def print_comparison(session: Session, args: argparse.Namespace) -> None:
    """Print a line for each way, and what is assumed."""
    if args.cold_start == 0:
        raise UsageError("--cold-start must be longer than 0s: without it nothing has to be decided")
    now_us = session.clock.now_us()
    assumed = await of_endpoint(session, args) if args.name else of_nobody(args, now_us)
    prices = Prices(assumed.second, assumed.second * args.waiting_worth)
    ways = compare(assumed.workload, assumed.cold_s, prices, assumed.bounds, assumed.timeouts_s, assumed.kept)
    first = assumed.timeouts_s[0]
    elsewhere = [way for way in ways if way.timeout_s is not None and (way.always or way.timeout_s == first)]
    books = {name: PriceIndex(book) for name, book in _market().items() if book.currency == assumed.currency}
    found = offers(assumed.workload, elsewhere, assumed.devices, books, now_us)
    if session.printer.as_json:
        session.printer.json(document(assumed, ways, found))
        return
    header, rows = table(assumed, ways, found)
    session.printer.table(header, rows, right=" ".join(header[1:]))
    for line in notes(assumed, ways, found):
        session.printer.prose(line)


def _market() -> dict[str, Any]:
    """Return the price books of others that ship with the package, by name."""
    return read_price_books(yaml.safe_load_all(files("zerotide.billing").joinpath("market.yaml").read_text()))
