"""When an endpoint's requests came, for replays of what other timeouts would have cost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence

from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period
from zerotide.billing.reports import ArrivalReport
from zerotide.billing.usage import Attempt

MOST = 50_000
"""Requests in a report; the newest are kept."""


def arrival_report(ledgers: Iterable[Ledger], index: PriceIndex, period: Period, as_of_us: int) -> ArrivalReport:
    """Return when requests came within a period, and how long replicas served them, oldest first.

    The log tells when a request went to its replica. One that was held for a wake is taken to have come with the
    first that was, and one that was tried again to have been served by all its attempts.
    """
    period = period.up_to(as_of_us)
    requests: list[tuple[int, int]] = []
    for ledger in ledgers:
        wakes = {wake.wake_id for wake in ledger.records.wakes}
        begun = sorted(wake.time_us for wake in ledger.records.wakes)
        attempts: dict[str, list[Attempt]] = {}
        for attempt in ledger.records.attempts:
            attempts.setdefault(attempt.request_id, []).append(attempt)
        for tries in attempts.values():
            first = min(tries, key=lambda each: each.number)
            came_us = first.forwarded_us
            if first.cold:
                came_us = _woken_us(first, wakes, begun)
            if period.start_us <= came_us < period.end_us:
                spans = [each.span(as_of_us, ledger.records.open_limit_us) for each in tries]
                requests.append((came_us, sum(span.end_us - span.start_us for span in spans)))
    requests.sort()
    return ArrivalReport(
        from_us=max(period.start_us, requests[-MOST][0]) if len(requests) > MOST else period.start_us,
        to_us=period.end_us,
        requests=tuple(requests[-MOST:]),
    )


def _woken_us(first: Attempt, wakes: Collection[str], begun: Sequence[int]) -> int:
    """Return when the wake began that a request had waited for; when it went where that is not known.

    One that is over before its wish is stored has requests that name the wake before it, or their pod. `begun` are the
    beginnings of all `wakes`, in order.
    """
    older = bisect_right(begun, first.forwarded_us)
    if not older or (first.wake_id != first.pod_uid and first.wake_id not in wakes):
        return first.forwarded_us
    return begun[older - 1]
