"""What every endpoint cost, kept up to date for the operator, which writes it into their statuses.

An endpoint is looked at while pods of it are not fully counted, at most once a minute; once when they are; and when
its newest wake or its failed starts change. So what never runs costs nothing here, and what has ended stays as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

from zerotide.api.cost import Spending, Spendings
from zerotide.api.scalars import MINUTE, SECOND, parse_duration, parse_time
from zerotide.billing.ledger import Wake, folded
from zerotide.billing.periods import month_of
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, Usage
from zerotide.billing.spending import cold_start_cost, cost_of, failed_starts_cost
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Key, Object

PACE_US = MINUTE
"""How old what is said of an endpoint that runs may become."""
DEADLINE_US = 15 * MINUTE
"""What `start.deadline` is where the spec does not say."""
ROUND = 20
"""Endpoints that are looked at in one round, so that none waits long for its counters."""


class Subject(NamedTuple):
    """An endpoint that is looked at: its newest wake, since when starts may fail, and whether pods are not counted."""

    key: Key
    wake: Wake | None
    failing_since_us: int | None
    open: bool


class Board:
    """The newest cost of each endpoint, with the version at which it changed last.

    `endpoints` returns the endpoints that there are, `wake_of` reads the wake that a status reports.
    """

    def __init__(
        self,
        prices: Callable[[], PriceIndex],
        now_us: Callable[[], int],
        endpoints: Callable[[], Mapping[Key, Object]],
        wake_of: Callable[[Object], Wake | None],
    ) -> None:
        self._prices, self._now_us, self._endpoints, self._wake_of = prices, now_us, endpoints, wake_of
        self._epoch, self._version = uuid.uuid4().hex, 0
        self._entries: dict[Key, tuple[int, Spending]] = {}
        self._looked_us: dict[Key, int] = {}
        self._open: set[Key] = set()
        self._marked: set[Key] = set()
        self._begun = False

    def mark(self, key: Key) -> None:
        """Look at an endpoint in the next round."""
        self._marked.add(key)

    def news(self, epoch: str, after: int) -> Spendings:
        """Return what has changed since a version of an epoch; everything where the epoch is not this one."""
        since = after if epoch == self._epoch else 0
        found = tuple(spending for version, spending in self._entries.values() if version > since)
        return Spendings(epoch=self._epoch, version=self._version, endpoints=found)

    async def refresh(self, reader: Threaded[Store]) -> None:
        """Look at some of what may have changed. Raises StoreError."""
        open_, before = await reader.insist(_open), self._open
        if not self._begun:
            since = month_of(self._now_us()).start_us
            self._marked |= await reader.insist(lambda store: {key[:2] for key in store.costs("", "", since)})
            self._marked |= {key for key, obj in self._endpoints().items() if _failing_since_us(obj) is not None}
            self._begun = True
        self._open = open_
        self._marked |= before - open_
        for key in self._due():
            self._marked.discard(key)
            endpoint = self._endpoints().get(key)
            if endpoint is None:
                self._forget(key)
                continue
            subject = Subject(key, self._wake_of(endpoint), _failing_since_us(endpoint), key in open_)
            look = partial(spending, subject=subject, index=self._prices(), now_us=self._now_us())
            self._looked_us[key] = self._now_us()
            self._put(key, await reader.insist(look))

    def _due(self) -> list[Key]:
        late = self._now_us() - PACE_US
        paced = (key for key in self._open - self._marked if self._looked_us.get(key, 0) <= late)
        oldest = sorted(paced, key=lambda key: self._looked_us.get(key, 0))
        return [*sorted(self._marked, key=lambda key: self._looked_us.get(key, 0)), *oldest][:ROUND]

    def _put(self, key: Key, found: Spending | None) -> None:
        known = self._entries.get(key)
        if found is None or (known is not None and known[1] == found):
            return
        self._version += 1
        self._entries[key] = (self._version, found)

    def _forget(self, key: Key) -> None:
        self._entries.pop(key, None)
        self._looked_us.pop(key, None)


def spending(store: Store, subject: Subject, index: PriceIndex, now_us: int) -> Spending | None:
    """Return what an endpoint cost, None while nothing of it has been counted. Raises StoreError."""
    namespace, endpoint = subject.key
    currency = index.book.currency
    since = month_of(month_of(now_us).start_us - DAY).start_us
    known = store.costs(namespace, endpoint, since)
    days: dict[int, Fraction] = {key.day_us: amount for key, amount in known.items() if key.currency == currency}
    if not days:
        return None
    cost = cost_of(days, partial(_usage, store, namespace, endpoint), index, now_us if subject.open else max(days))
    if subject.wake is not None:
        wake = subject.wake
        around = Period(wake.time_us - SECOND, wake.time_us + wake.total_us + SECOND)
        begun = [folded(each, now_us) for each in store.starts(namespace, endpoint, around)]
        amount = cold_start_cost(begun, index, wake.wake_id, wake.time_us)
        cost = cost.model_copy(update={"last_cold_start": amount})
    if subject.failing_since_us is not None:
        tried = store.starts(namespace, endpoint, Period(subject.failing_since_us, now_us))
        burnt = failed_starts_cost([folded(each, now_us) for each in tried], index, subject.failing_since_us)
        cost = cost.model_copy(update={"failed_starts": burnt})
    return Spending(endpoint=f"{namespace}/{endpoint}", final=not subject.open, cost=cost.dump())


def _open(store: Store) -> set[Key]:
    return {(pod.namespace, pod.endpoint) for pod in store.unsettled()}


def _usage(store: Store, namespace: str, endpoint: str, period: Period) -> Usage:
    total = Usage()
    for used in store.usage(namespace, endpoint, period).values():
        total = total.plus(used)
    return total


def _failing_since_us(endpoint: Object) -> int | None:
    """Return when the first of the starts that failed may have begun: its failure is told, and its deadline."""
    since: Any = ((endpoint.get("status") or {}).get("failedStarts") or {}).get("since")
    deadline: Any = ((endpoint.get("spec") or {}).get("start") or {}).get("deadline")
    return parse_time(since) - (parse_duration(deadline) if deadline else DEADLINE_US) - MINUTE if since else None
