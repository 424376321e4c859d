"""Figures of tokens: which were refused, and how reading keys goes."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zerotide.activator.access.tokens import Tokens


class TokenFigures(Collector):
    """Render what tokens count."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        refused = CounterMetricFamily(
            "zerotide_tokens_refused", "Tokens that opened nothing, by what is wrong with them.", labels=("reason",)
        )
        loads = CounterMetricFamily("zerotide_jwks_loads", "Readings of issuers' keys.", labels=("outcome",))
        for family, counts in ((refused, self._tokens.refused), (loads, self._tokens.loads)):
            for label, count in counts.items():
                family.add_metric((label,), count)
            yield family
