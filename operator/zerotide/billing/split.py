"""Divide the active time of a replica among the consumers whose requests were in flight, exactly.

Each instant is shared equally by the requests in flight at it, so k requests in one batch pay for one device and not
for k. Shares are kept as fractions of the virtual time V(t), which runs at 1/k of the clock while k requests are in
flight: a request's share is V(end) - V(start). They are rounded once, by largest remainder, so the parts sum to the
whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from math import lcm
from typing import TypeVar

from zerotide.billing.spans import Span

Who = TypeVar("Who", bound=Hashable)


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
