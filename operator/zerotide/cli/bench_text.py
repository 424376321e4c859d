"""What `zerotide bench` says of its requests: how long they took, what they brought, what failed, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from zerotide.api.scalars import SECOND
from zerotide.billing.reports import CostReport
from zerotide.cli.load import UNSENT, Sample
from zerotide.cli.output import format_span
from zerotide.scaling.ranks import nearest_rank

PERCENTS = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread, by nearest rank; all 0 without values."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


def spread(values: Iterable[float]) -> Spread:
    """Return how values are spread."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p90, p99 = (nearest_rank(ordered, percent) for percent in PERCENTS)
    return Spread(len(ordered), sum(ordered) / len(ordered), p50, p90, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Measured:
    """All that a run came to; times in seconds. Only answered requests have times."""

    took_s: float
    sent: int
    answered: int
    codes: dict[str, int]
    cold: int
    input_tokens: int
    output_tokens: int
    first: Spread
    between: Spread
    each: Spread
    latency: Spread
    cold_first: Spread

    @property
    def tokens_second(self) -> float:
        """Return the tokens that came in a second, of all requests together."""
        return self.output_tokens / self.took_s if self.took_s else 0.0


def measured(samples: Sequence[Sample], took_s: float) -> Measured:
    """Return what samples of a run of so many seconds come to."""
    good = [sample for sample in samples if not sample.code]
    return Measured(
        took_s=took_s,
        sent=sum(sample.code != UNSENT for sample in samples),
        answered=len(good),
        codes=dict(sorted(Counter(sample.code for sample in samples if sample.code).items())),
        cold=sum(sample.cold for sample in samples),
        input_tokens=sum(sample.input_tokens for sample in good),
        output_tokens=sum(sample.output_tokens for sample in good),
        first=spread(sample.first_s for sample in good),
        between=spread(gap for sample in good for gap in sample.gaps_s),
        each=spread(
            (sample.latency_s - sample.first_s) / (sample.output_tokens - 1)
            for sample in good
            if sample.output_tokens > 1
        ),
        latency=spread(sample.latency_s for sample in good),
        cold_first=spread(sample.first_s for sample in good if sample.cold),
    )


HEADER = ("TIME", "MEAN", "P50", "P90", "P99", "MAX")
_NAMES = {
    "first": "to the first token",
    "between": "between pieces",
    "each": "for each further token",
    "latency": "to the end",
}


def rows(found: Measured) -> list[list[str]]:
    """Return a line for each kind of time."""
    lines = []
    for kind, name in _NAMES.items():
        values: Spread = getattr(found, kind)
        shown = (values.mean, values.p50, values.p90, values.p99, values.max)
        lines.append([name, *(span(value) if values.count else "" for value in shown)])
    return lines


def span(seconds: float) -> str:
    """Return a time; below 10 ms with tenths, for tokens of a fast engine."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.01 else format_span(round(seconds * SECOND))


def summary(found: Measured, how: str) -> list[str]:
    """Return what it comes to in sentences."""
    failed = ", ".join(f"{number} {code}" for code, number in found.codes.items())
    lines = [
        f"{found.sent} requests in {span(found.took_s)}, {found.sent / max(found.took_s, 1e-9):.1f} a second, {how}: "
        f"{found.answered} answered{f', and {failed}' if failed else ''}."
    ]
    if found.output_tokens:
        lines.append(
            f"{found.input_tokens} tokens in, {found.output_tokens} out: {found.tokens_second:.1f} out a second."
        )
    if found.cold:
        most = f", the last of them after {span(found.cold_first.max)}" if found.cold_first.count else ""
        lines.append(f"{found.cold} of them came before a replica served; first tokens of those{most}.")
    return lines


def known(report: CostReport) -> int:
    """Return how many answers a bill knows of."""
    return sum(each.tokens.requests for each in report.endpoints)


def cost_line(report: CostReport, answered: int) -> str:
    """Return what an endpoint cost within a run, and whether the bill knows of all that was answered."""
    each = _per_million(report)
    tokens = f", {Decimal(each):.2f} for a million tokens" if each is not None else ""
    missing = answered - known(report)
    late = f" The bill does not know of {missing} answers yet." if missing > 0 else ""
    return (
        f"The endpoint cost {Decimal(report.total):.6f} {report.currency} in that time{tokens}, "
        f"whatever else it served then included.{late}"
    )


def _per_million(report: CostReport) -> str | None:
    return next((each.per_million_tokens for each in report.endpoints if each.per_million_tokens is not None), None)


def document(found: Measured, bill: CostReport | None) -> dict[str, Any]:
    """Return all of it as data; times in seconds."""
    times = {kind: _spread(getattr(found, kind)) for kind in (*_NAMES, "cold_first")}
    cost = None
    if bill is not None:
        cost = {"currency": bill.currency, "total": bill.total, "perMillionTokens": _per_million(bill)}
    return {
        "seconds": found.took_s,
        "sent": found.sent,
        "answered": found.answered,
        "errors": found.codes,
        "cold": found.cold,
        "inputTokens": found.input_tokens,
        "outputTokens": found.output_tokens,
        "outputTokensPerSecond": found.tokens_second,
        "firstToken": times["first"],
        "betweenPieces": times["between"],
        "eachFurtherToken": times["each"],
        "latency": times["latency"],
        "coldFirstToken": times["cold_first"],
        "cost": cost,
    }


def _spread(values: Spread) -> dict[str, float] | None:
    if not values.count:
        return None
    return {name: getattr(values, name) for name in ("count", "mean", "p50", "p90", "p99", "max")}
