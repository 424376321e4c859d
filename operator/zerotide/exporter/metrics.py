"""Show the ledger's counters to Prometheus: read from what is stored, never counted in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from zerotide import __version__
from zerotide.exporter.budgets import Ratio
from zerotide.exporter.counters import TOKENS
from zerotide.exporter.sealer import COST_CORRECTIONS, GPU_CORRECTIONS
from zerotide.exporter.settle import COST, CPU_SECONDS, GPU_SECONDS
from zerotide.exporter.store import Series

_WHERE = ("namespace", "inference_endpoint")
COUNTERS = {
    GPU_SECONDS: (
        "zerotide_gpu_seconds",
        "Accelerator time that is settled, in device-seconds, by what the replica did with it.",
        (*_WHERE, "phase", "accelerator"),
    ),
    CPU_SECONDS: (
        "zerotide_cpu_seconds",
        "Core-seconds that replicas without accelerators had allocated, settled, by what they did with them.",
        (*_WHERE, "phase"),
    ),
    TOKENS: (
        "zerotide_tokens",
        "Tokens of delivered answers; the types are disjoint, and so are the consumers.",
        (*_WHERE, "consumer", "type"),
    ),
    COST: (
        "zerotide_cost",
        "Cost of settled time at the price book's rates.",
        (*_WHERE, "currency", "phase"),
    ),
    GPU_CORRECTIONS: (
        "zerotide_gpu_seconds_corrections",
        "Device-seconds that corrections of sealed charges have added (plus) and taken away (minus).",
        (*_WHERE, "phase", "accelerator", "sign"),
    ),
    COST_CORRECTIONS: (
        "zerotide_cost_corrections",
        "What corrections of sealed charges have added (plus) and taken away (minus).",
        (*_WHERE, "currency", "phase", "sign"),
    ),
}


class LedgerCollector(Collector):
    """Collect the counters that were stored last, and gauges that are asked for at each scrape."""

    def __init__(
        self,
        gauges: Mapping[str, tuple[str, Callable[[], float]]],
        budgets: Callable[[], Iterable[Ratio]] = lambda: (),
        webhooks: Callable[[], Mapping[tuple[str, str, str], int]] = dict,
        undelivered: Callable[[], Mapping[tuple[str, str, str], int]] = dict,
    ) -> None:
        """`webhooks` counts attempts by namespace, budget and outcome since this process began.

        `undelivered` counts what was sent in vain by namespace, budget and state, as the budgets' statuses have it.
        """
        self._gauges, self._budgets, self._webhooks, self._undelivered = gauges, budgets, webhooks, undelivered
        self._series: Mapping[Series, Fraction] = {}

    def publish(self, series: Mapping[Series, Fraction]) -> None:
        """Show these counters from now on; they must be stored already."""
        self._series = series

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering asks for no values."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return every metric of the exporter."""
        families = {
            name: CounterMetricFamily(stem, text, labels=list(labels))
            for name, (stem, text, labels) in COUNTERS.items()
        }
        for (name, labels), value in self._series.items():
            families[name].add_metric(labels, float(value))
        yield from families.values()
        for name, (text, read) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=read())
        used = GaugeMetricFamily(
            "zerotide_budget_used_ratio", "Used part of a budget's limit.", labels=["namespace", "budget"]
        )
        for ratio in self._budgets():
            used.add_metric([ratio.namespace, ratio.budget], ratio.ratio)
        yield used
        sent = CounterMetricFamily(
            "zerotide_budget_webhooks",
            "Webhooks of budgets that were sent, by what became of it: delivered, retrying, failed.",
            labels=["namespace", "budget", "outcome"],
        )
        for labels, number in self._webhooks().items():
            sent.add_metric(labels, number)
        yield sent
        waiting = GaugeMetricFamily(
            "zerotide_budget_webhooks_undelivered",
            "Webhooks of budgets that were not taken in the present window: retrying, or failed for good.",
            labels=["namespace", "budget", "state"],
        )
        for labels, number in self._undelivered().items():
            waiting.add_metric(labels, number)
        yield waiting
        info = GaugeMetricFamily("zerotide_build_info", "Version of the exporter.", labels=["component", "version"])
        info.add_metric(["exporter", __version__], 1)
        yield info


def registry(collector: Collector) -> CollectorRegistry:
    """Return a registry of this collector alone."""
    made = CollectorRegistry(auto_describe=False)
    made.register(collector)
    return made
