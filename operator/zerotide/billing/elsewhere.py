"""What others would ask for a workload, by their public prices: for the same replicas, or for its tokens.

A price per second of a device is that of a service which bills starts, service and idle time, so the replicas may sleep
there, too; one per hour is that of a machine that is rented throughout. A price of tokens is that of the model that
its book names, which is not the endpoint's. Amounts are dollars in floats, for nobody is billed by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from zerotide.api.scalars import SECOND
from zerotide.billing.prices import Meter, Per, Price, PriceIndex
from zerotide.scaling.compare import MONTH_H, Way, Workload


class Offer(NamedTuple):
    """One offer: whose, for which way of keeping replicas (None: for tokens), in a month, by which prices."""

    book: str
    way: Way | None
    month: float
    prices: tuple[Price, ...]


class Devices(NamedTuple):
    """What a replica runs on."""

    class_name: str
    units: int


def offers(
    workload: Workload, ways: Iterable[Way], devices: Devices | None, books: Mapping[str, PriceIndex], at_us: int
) -> list[Offer]:
    """Return what each book asks at an instant, in the books' order; what it has no price for is not offered."""
    found: list[Offer] = []
    ways = tuple(ways)
    for name, index in books.items():
        price = index.at(Meter.ACCELERATOR_TIME, devices.class_name, at_us) if devices else None
        if devices and price is not None:
            second = replica_second(price, devices.units)
            found += [
                Offer(name, way, second * way.served.replica_s / workload.months, (price,))
                for way in ways
                if way.always or price.per is Per.SECOND
            ]
        given, made = (index.at(meter, "", at_us) for meter in (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS))
        if workload.tokens and given is not None and made is not None:
            spent = float(workload.input_tokens * given.rate + workload.output_tokens * made.rate)
            found.append(Offer(name, None, spent / workload.months, (given, made)))
    return found


def replica_second(price: Price, units: int) -> float:
    """Return what a replica with so many devices costs in a second."""
    return float(price.rate * SECOND * units)


def even_rate(workload: Workload, offer: Offer, month: float) -> float | None:
    """Return the requests an hour from which `month` is less than the offer for tokens; None for what is no such."""
    if offer.way is not None or not workload.requests or not offer.month:
        return None
    each = offer.month * workload.months / workload.requests
    return month / MONTH_H / each
