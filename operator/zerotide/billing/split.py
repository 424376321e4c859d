"""Divide the active time of a replica among the consumers whose requests were in flight, exactly.

Each instant is shared by the requests in flight at it, so k requests in one batch pay for one device and not for k.
Shares are differences of a virtual time V(t), which runs at 1/W of the clock while requests of a total weight of W are
in flight: a request of weight w that flew from a to b has w * (V(b) - V(a)).

Equal: w is 1, W is their number, and V is an exact fraction. Tokens: w is the request's tokens per microsecond of its
flight. Denominators of such weights have no bound, so V is kept in units of 2^-192 us, rounded down; what that leaves
over is far below a microsecond for a whole span and goes to the largest share. Shares are rounded to
integers once for each whole that they are part of, by largest remainder: the parts sum to the whole, and each is
within one unit of its exact share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from math import lcm
from typing import NamedTuple, TypeVar

from zerotide.billing.spans import Span

Who = TypeVar("Who", bound=Hashable)

_FINE = 192
"""Bits behind the point of the virtual time of weighted requests; weights have half of them."""


class Flight(NamedTuple):
    """A request in flight on a replica; `work` is 0 where all requests share alike, else its tokens."""

    consumer: str
    span: Span
    work: int = 0


def split_flights(flights: Iterable[Flight], start_us: int, end_us: int) -> dict[str, Fraction]:
    """Return each consumer's share of [start, end) by the rule that the flights were made for.

    The shares sum to the length of the part that is covered by at least one request.
    """
    flights = list(flights)
    if any(flight.work for flight in flights):
        return _split_work(flights, start_us, end_us)
    return split_active(((flight.consumer, flight.span) for flight in flights), start_us, end_us)


def split_active(requests: Iterable[tuple[Who, Span]], start_us: int, end_us: int) -> dict[Who, Fraction]:
    """Return each consumer's exact share, in microseconds, of [start, end), which requests cover in whole or part.

    The shares sum to the length of the part that is covered by at least one request.
    """
    clipped = ((who, max(low, start_us), min(high, end_us)) for who, (low, high) in requests)
    flights = [flight for flight in clipped if flight[1] < flight[2]]
    if len(flights) == 1:
        ((who, low, high),) = flights
        return {who: Fraction(high - low)}
    virtual, scale = _virtual_time([low for _, low, _ in flights], [high for _, _, high in flights])
    shares: dict[Who, int] = {}
    for who, low, high in flights:
        shares[who] = shares.get(who, 0) + virtual[high] - virtual[low]
    return {who: Fraction(share, scale) for who, share in shares.items()}


def apportion(parts: Mapping[Who, Fraction], total: int | None = None) -> dict[Who, int]:
    """Round fractions to integers that sum to `total` (absent: their own sum, which must then be whole enough).

    Every part is within one unit of its fraction; the units that rounding down leaves go to the largest remainders,
    among equals to the first in order.
    """
    whole = round(sum(parts.values(), Fraction(0))) if total is None else total
    floors = {who: part.numerator // part.denominator for who, part in parts.items()}
    missing = whole - sum(floors.values())
    order: Sequence[Who] = sorted(parts, key=lambda who: floors[who] - parts[who])
    for who in order[:missing]:
        floors[who] += 1
    return floors


def _virtual_time(starts: list[int], ends: list[int]) -> tuple[dict[int, int], int]:
    """Return V at every edge, as numerators of one common denominator, and that denominator.

    Sums of integers of any size are many times quicker than sums of fractions, each of which is reduced.
    """
    change = Counter(starts)
    change.subtract(ends)
    edges = sorted(change)
    flying = list(accumulate(change[edge] for edge in edges))
    scale = lcm(*{number for number in flying if number})
    steps = [
        (high - low) * (scale // number) if number else 0
        for low, high, number in zip(edges, edges[1:], flying, strict=False)
    ]
    return dict(zip(edges, accumulate(steps, initial=0), strict=False)), scale


def _split_work(flights: Iterable[Flight], start_us: int, end_us: int) -> dict[str, Fraction]:
    weighed = []
    change: Counter[int] = Counter()
    for consumer, (begin, end), work in flights:
        low, high = max(begin, start_us), min(end, end_us)
        if low < high:
            # Its weight is that of its whole flight: a part of the time has a part of the work.
            weight = max((max(work, 1) << _FINE // 2) // (end - begin), 1)
            weighed.append((consumer, low, high, weight))
            change[low] += weight
            change[high] -= weight
    edges = sorted(change)
    pieces = list(zip(edges, edges[1:], accumulate(change[edge] for edge in edges), strict=False))
    steps = (((high - low) << _FINE) // total if total else 0 for low, high, total in pieces)
    virtual = dict(zip(edges, accumulate(steps, initial=0), strict=False))
    shares: dict[str, int] = {}
    for consumer, low, high, weight in weighed:
        shares[consumer] = shares.get(consumer, 0) + weight * (virtual[high] - virtual[low])
    if shares:
        covered = sum(high - low for low, high, total in pieces if total)
        largest = max(shares, key=lambda consumer: (shares[consumer], consumer))
        shares[largest] += (covered << _FINE) - sum(shares.values())
    return {consumer: Fraction(share, 1 << _FINE) for consumer, share in shares.items()}
