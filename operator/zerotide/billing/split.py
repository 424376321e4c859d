"""Divide the active time of a replica among the consumers whose requests were in flight, exactly.

Each instant is shared equally by the requests in flight at it, so k requests in one batch pay for one device and not
for k. Shares are kept as fractions of the virtual time V(t), which runs at 1/k of the clock while k requests are in
flight: a request's share is V(end) - V(start). They are rounded once, by largest remainder, so the parts sum to the
whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

from zerotide.billing.spans import Span, clip

Who = TypeVar("Who", bound=Hashable)


def split_active(requests: Iterable[tuple[Who, Span]], start_us: int, end_us: int) -> dict[Who, Fraction]:
    """Return each consumer's exact share, in microseconds, of [start, end), which requests cover in whole or part.

    The shares sum to the length of the part that is covered by at least one request.
    """
    flights = [(who, span) for who, whole in requests for span in clip((whole,), start_us, end_us)]
    edges = sorted({edge for _, span in flights for edge in span})
    virtual = _virtual_time(edges, [span for _, span in flights])
    shares: dict[Who, Fraction] = {}
    for who, span in flights:
        shares[who] = shares.get(who, Fraction(0)) + virtual[span.end_us] - virtual[span.start_us]
    return shares


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


def _virtual_time(edges: Sequence[int], spans: Sequence[Span]) -> dict[int, Fraction]:
    starts, ends = sorted(span.start_us for span in spans), sorted(span.end_us for span in spans)
    virtual: dict[int, Fraction] = {}
    now, before, started, ended = Fraction(0), 0, 0, 0
    for edge in edges:
        flying = started - ended
        if flying:
            now += Fraction(edge - before, flying)
        virtual[edge] = now
        before = edge
        while started < len(starts) and starts[started] <= edge:
            started += 1
        while ended < len(ends) and ends[ended] <= edge:
            ended += 1
    return virtual
