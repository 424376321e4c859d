"""Traces: when the requests of some endpoints came and how long each was served."""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from zerotide.api.wording import counted
from zerotide.scaling.replay.failures import EmptyHoldout, InvalidTrace

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
PREFILL_S, DECODE_S = 0.0002, 0.02
"""Seconds of service for each token of the context, and for each that is generated."""
MOST_TOKENS = 10**9
LONGEST_S = 100 * 365 * 86_400.0
"""What a request's tokens and a trace's length are at most: what is beyond was not recorded."""
LEAST = 3
"""Requests from which on there is something to learn."""


class Uniform(Protocol):
    """A source of random numbers from 0 to 1, such as random.Random(seed)."""

    def random(self) -> float:
        """Return the next number, 1 excluded."""
        ...


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One endpoint's requests, oldest first: seconds since the trace began, and seconds of service."""

    times: tuple[float, ...]
    services: tuple[float, ...]

    def between(self, begin_s: float, end_s: float) -> Arrivals:
        """Return the requests that came from one time up to another."""
        first, last = bisect_left(self.times, begin_s), bisect_left(self.times, end_s)
        return Arrivals(self.times[first:last], self.services[first:last])


@dataclass(frozen=True, slots=True)
class Trace:
    """Some endpoints' requests over a time; the name says how it was made."""

    name: str
    begin_s: float
    end_s: float
    endpoints: tuple[Arrivals, ...]

    @property
    def requests(self) -> int:
        """Return how many requests there are."""
        return sum(len(endpoint.times) for endpoint in self.endpoints)

    def between(self, begin: float, end: float) -> Trace:
        """Return a part; `begin` and `end` are shares of the whole time."""
        span = self.end_s - self.begin_s
        low, high = self.begin_s + begin * span, self.begin_s + end * span
        return Trace(self.name, low, high, tuple(endpoint.between(low, high) for endpoint in self.endpoints))

    def held_out(self) -> tuple[Trace, Trace]:
        """Return the first two thirds and the last one. Raises EmptyHoldout where no request came in the last."""
        rest = self.between(2 / 3, 1)
        if not rest.requests:
            raise EmptyHoldout(
                f"trace {self.name}: no request in its last third, on which policies are judged: take a longer one"
            )
        return self.between(0, 2 / 3), rest


class Row(NamedTuple):
    """A recorded request: seconds since the first one, and its tokens."""

    time_s: float
    context: int
    generated: int

    @property
    def service_s(self) -> float:
        """Return how long it is served, by its tokens."""
        return self.context * PREFILL_S + self.generated * DECODE_S


def timed(rows: Iterable[Row]) -> list[tuple[float, float]]:
    """Return when each request came and how long it is served, in seconds."""
    return [(row.time_s, row.service_s) for row in rows]


def read(lines: Iterable[str]) -> list[Row]:
    """Read a CSV of COLUMNS; return its requests, oldest first.

    Raises InvalidTrace, which names the line.
    """
    reader = csv.DictReader(lines)
    try:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        rows = [] if missing else [_row(row) for row in reader]
    except UnicodeDecodeError as error:
        raise InvalidTrace(f"the trace is no text in UTF-8: {error}") from error
    except (csv.Error, ValueError) as error:
        raise InvalidTrace(f"line {reader.line_num} of the trace cannot be read: {error}") from error
    if missing:
        raise InvalidTrace(
            f"the trace has no column {', '.join(missing)}: its first line must name {','.join(COLUMNS)}"
        )
    if len(rows) < LEAST:
        raise InvalidTrace(
            f"the trace has {counted(len(rows), 'request')}: nothing can be learned from fewer than {LEAST}"
        )
    rows.sort(key=lambda row: (row.time_s, row.service_s))
    return [row._replace(time_s=row.time_s - rows[0].time_s) for row in rows]


def _row(row: Mapping[str, str | None]) -> Row:
    """Return a request, its time that of the epoch; one without a zone is of UTC. Raises ValueError."""
    came, context, generated = (row[column] or "" for column in COLUMNS)
    time = datetime.fromisoformat(came)
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return Row(time.timestamp(), _tokens(context), _tokens(generated))


def _tokens(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MOST_TOKENS:
        raise ValueError(f"{text} is no number of tokens")
    return number


@dataclass(frozen=True, slots=True)
class Thinning:
    """How one dense trace becomes several sparse endpoints."""

    endpoints: int = 10
    run: int = 50
    """Mean length of a run of requests that stays together: single ones would make the bursts vanish."""
    stretch: float = 24.0
    """Times that the time between requests grows."""
    seed: int = 1

    def __str__(self) -> str:
        return f"{counted(self.endpoints, 'endpoint')}, runs of {self.run}, ×{self.stretch:g}, seed {self.seed}"


def thin(name: str, rows: Sequence[tuple[float, float]], how: Thinning, uniform: Uniform) -> Trace:
    """Assign runs of requests to endpoints by a Zipf law, and stretch time. Raises InvalidTrace."""
    if how.endpoints < 1 or how.run < 1 or how.stretch <= 0:
        raise InvalidTrace(f"a trace cannot be thinned to {how}: endpoints, runs and stretch must be positive")
    end_s = rows[-1][0] * how.stretch
    if end_s > LONGEST_S:
        days = end_s / 86_400
        raise InvalidTrace(f"stretched ×{how.stretch:g} the trace lasts for {days:.3g} days: a century is the most")
    weights = [1 / rank for rank in range(1, how.endpoints + 1)]
    times: list[list[float]] = [[] for _ in weights]
    services: list[list[float]] = [[] for _ in weights]
    index = 0
    while index < len(rows):
        chosen = _pick(weights, uniform.random())
        length = 1 + int(-math.log(1 - uniform.random()) * how.run)
        for time, service in rows[index : index + length]:
            times[chosen].append(time * how.stretch)
            services[chosen].append(service)
        index += length
    endpoints = tuple(Arrivals(tuple(t), tuple(s)) for t, s in zip(times, services, strict=True))
    # The last request is a part of the trace.
    return Trace(name, 0.0, math.nextafter(end_s, math.inf), endpoints)


def _pick(weights: Sequence[float], at: float) -> int:
    rest = at * sum(weights)
    for index, weight in enumerate(weights):
        rest -= weight
        if rest < 0:
            return index
    return len(weights) - 1
