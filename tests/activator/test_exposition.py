"""The page of metrics: what the client library would write, in less time, and never at one go."""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
from hypothesis import given, settings
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from zerotide.activator.exposition import END, pieces
from zerotide.activator.metrics import Metrics


def filled(endpoints: int) -> Metrics:
    """Return metrics of many endpoints."""
    metrics = Metrics(lambda: 0.0)
    for number in range(endpoints):
        series = metrics.of("demo", f"m{number}")
        series.requests["200", "false"] += number
        series.rejected["queue_full"] += 1
        series.duration["false"].observe(number / 7)
        series.hold.observe(0.2)
    return metrics


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 40))
def test_the_page_is_the_library_s(endpoints: int) -> None:
    """However many chunks it is made of: family by family and sample by sample what the library reads from its own."""
    metrics = filled(endpoints)
    text = metrics.render()[0].decode()
    read = {
        (family.name, sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    meant = {
        (family.name, sample.name, frozenset(sample.labels.items())): float(sample.value)
        for family in metrics.collect()
        for sample in family.samples
    }
    assert read == meant
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)) == len({family.name for family in metrics.collect()})


@given(st.text(), st.floats(allow_nan=False), st.text(min_size=1))
def test_every_label_survives(label: str, value: float, about: str) -> None:
    """Whatever is in it, as the library escapes it."""
    family = GaugeMetricFamily("a_b", about, labels=("x",))
    family.add_metric((label,), value)

    class One:
        def collect(self) -> list[GaugeMetricFamily]:
            return [family]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(One())
    theirs = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    ours = "".join(pieces([family])) + END
    assert ours.rpartition(" ")[0].split("} ")[0] == theirs.rpartition(" ")[0].split("} ")[0]


def test_a_family_in_parts_has_one_head() -> None:
    """Parts that follow each other belong together."""
    parts = []
    for number in (1, 2):
        family = CounterMetricFamily("a", "A.", labels=("n",))
        family.add_metric((str(number),), number)
        parts.append(family)
    text = "".join(pieces(parts))
    assert text == '# HELP a A.\n# TYPE a counter\na_total{n="1"} 1.0\na_total{n="2"} 2.0\n'


async def test_others_have_their_turn() -> None:
    """While a large page is rendered, the loop goes on."""
    metrics, turns = filled(300), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    gently = await metrics.render_gently()
    counting.cancel()
    assert gently == metrics.render()
    assert turns > 50
