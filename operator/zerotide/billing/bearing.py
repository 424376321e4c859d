"""Tell which requests of a replica bear on what a period costs, so that a long life is not read for each quarter.

A request that was in flight in the period does. An earlier one may say when the replica could first serve: that
is settled before the first Ready, and of its last run once that one was ready before the period. Who served in a
replica's whole life says who pays for its starts, where consumers do.
"""

from __future__ import annotations

from collections.abc import Iterable

from zerotide.billing.facts import Fact, Kind
from zerotide.billing.rating import Period


def early_until(facts: Iterable[Fact], period: Period) -> int | None:
    """Return the instant before which requests may say when a replica could first serve.

    None where its container starts within the period, or was not seen ready by then: all its requests bear on it.
    """
    times: dict[str, list[int]] = {Kind.STARTED: [], Kind.READY: [], Kind.EXITED: []}
    for fact in facts:
        if fact.kind in times:
            times[fact.kind].append(fact.t_us)
    started, ready, exited = times.values()
    before = [t for t in started if t < period.start_us]
    if not before or any(period.start_us <= t < period.end_us for t in started):
        return None
    run = max(before)
    first = min((t for t in ready if run <= t < period.start_us), default=None)
    if first is None or any(run <= t <= first for t in exited):
        return None
    return min(ready)
