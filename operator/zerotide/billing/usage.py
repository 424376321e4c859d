"""Requests as the bill sees them: the two records of an attempt joined, and the spans in which a replica was busy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from zerotide.api.scalars import MINUTE
from zerotide.api.usage import Outcome
from zerotide.billing.spans import Span

OPEN_LIMIT_US = 15 * MINUTE
"""For how long an attempt without a settlement is taken to be in flight: the default of `request.timeout`."""


class Unbilled(NamedTuple):
    """Attempts that were served until `to_us` and that nobody could record."""

    namespace: str
    endpoint: str
    consumer: str
    requests: int
    to_us: int


def unbilled_in(unbilled: Iterable[Unbilled], period: tuple[int, int]) -> dict[tuple[str, str, str], int]:
    """Return how many attempts within [start, end) nobody could record, by namespace, endpoint and consumer."""
    found: dict[tuple[str, str, str], int] = {}
    for each in unbilled:
        if period[0] <= each.to_us < period[1]:
            found[each[:3]] = found.get(each[:3], 0) + each.requests
    return found


class Attempt(NamedTuple):
    """One attempt to serve a request on one replica; `ended_us` is None until it is settled."""

    request_id: str
    number: int
    namespace: str
    endpoint: str
    consumer: str
    pod_uid: str
    cold: int
    wake_id: str
    forwarded_us: int
    ended_us: int | None
    outcome: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    estimated: int = 0
    """Whether its stream was cut, so that the activator counted its output."""
    adapter: str = ""
    """The adapter of the model that answered, empty for the model itself."""

    @property
    def work(self) -> int:
        """Return what it asked of its replica, in tokens that were computed; at least 1."""
        return max(self.input_tokens - self.cached_tokens + self.output_tokens, 1)

    @property
    def delivered(self) -> bool:
        """Tell whether its tokens are billed: those of a broken attempt are the platform's loss."""
        return self.ended_us is not None and self.outcome != Outcome.LOST

    def finished_in(self, start_us: int, end_us: int) -> bool:
        """Tell whether it ended within [start, end) and its tokens are billed."""
        return self.ended_us is not None and start_us <= self.ended_us < end_us and self.delivered

    def span(self, as_of_us: int, open_limit_us: int = OPEN_LIMIT_US) -> Span:
        """Return when it was in flight, as known at `as_of_us`; an open one ends after the limit at the latest."""
        end = self.forwarded_us + open_limit_us if self.ended_us is None else self.ended_us
        return Span(self.forwarded_us, min(max(end, self.forwarded_us), as_of_us))
