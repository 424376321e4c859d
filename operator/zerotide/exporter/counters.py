"""What requests add to the counters of tokens, whichever store keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from zerotide.billing.usage import Attempt
from zerotide.exporter.store import Series

TOKENS = "tokens"


def of_tokens(attempts: Iterable[Attempt], labels: Mapping[str, str]) -> dict[Series, Fraction]:
    """Return what attempts add, by the label of their consumer; nothing where that is nothing."""
    counted: dict[Series, Fraction] = {}
    for attempt in attempts:
        where = (attempt.namespace, attempt.endpoint, labels[attempt.consumer])
        uncached = attempt.input_tokens - attempt.cached_tokens
        counts = {"input": uncached, "cached_input": attempt.cached_tokens, "output": attempt.output_tokens}
        for type_, number in counts.items():
            series = (TOKENS, (*where, type_))
            counted[series] = counted.get(series, Fraction(0)) + number
    return {series: number for series, number in counted.items() if number}
