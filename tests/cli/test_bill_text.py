"""Bills as people read them, from reports as the exporter makes them."""

from __future__ import annotations

from typing import Any

import pytest

from zerotide.api.scalars import SECOND, parse_time
from zerotide.billing.reports import (
    AdapterCost,
    ColdStartReport,
    ConsumerCost,
    EndpointCost,
    PhaseCost,
    PodSegments,
    SegmentView,
    Stage,
    StageSummary,
    TokenCost,
    WakeCost,
)
from zerotide.cli.bill_text import cold_share, cost_lines, cost_table, money, monies, segment_lines, wake_lines

NOW = parse_time("2026-11-22T18:00:00Z")


def phase(name: str, seconds: int, amount: str, gpu: str = "0") -> PhaseCost:
    """Return one phase of a replica with half a core and a GiB."""
    return PhaseCost(
        phase=name,
        replica_us=seconds * SECOND,
        accelerator_seconds=gpu,
        cpu_seconds=str(seconds / 2),
        memory_gib_seconds=str(seconds),
        amount=amount,
    )


def endpoint(**more: Any) -> EndpointCost:
    """Return the cost of an endpoint with two phases."""
    fields: dict[str, Any] = {
        "namespace": "demo",
        "endpoint": "smollm2",
        "accelerator": "",
        "units": 0,
        "replicas": 1,
        "phases": (phase("loading", 2, "0.0001"), phase("active", 10, "0.05")),
        "tokens": TokenCost(requests=0, input=0, cached_input=0, output=0, amount="0"),
        "consumers": (),
        "wakes": (),
        "total": "0.0501",
        "always_on": "12",
        "per_million_tokens": None,
    }
    return EndpointCost(**{**fields, **more})


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("12", "12.00"),
        ("12.5", "12.50"),
        ("0.000001", "0.000001"),
        ("-0.10", "-0.10"),
        ("1E+2", "100.00"),
    ],
)
def test_money(amount: str, text: str) -> None:
    """Cents at least, and no digit of the ledger is lost."""
    assert money(amount) == text


def test_a_column_of_amounts_has_one_point() -> None:
    """All with as many digits as the longest."""
    assert monies(["12", None, "0.0001"]) == ["12.0000", "", "0.0001"]
    assert monies([]) == []


def test_a_bill_on_the_cpu() -> None:
    """Phases in core-seconds, no token line without a token price, the alternative beside it."""
    assert cost_lines(endpoint(), "USD", "November") == [
        "demo/smollm2, November",
        "",
        "PHASE      TIME  CPU-SECONDS  GIB-SECONDS     USD",
        "loading  2.00 s            1            2  0.0001",
        "active   10.0 s            5           10  0.0500",
        "total    12.0 s            -            -  0.0501",
        "",
        "One replica always on would have cost USD 12.00.",
    ]


def test_a_bill_with_accelerators_tokens_consumers_and_notes() -> None:
    """Everything that an endpoint can have."""
    lines = cost_lines(
        endpoint(
            accelerator="nvidia-h100-80gb",
            units=2,
            phases=(phase("active", 10, "0.05", gpu="20"),),
            tokens=TokenCost(requests=1, input=31, cached_input=0, output=8, amount="0.01"),
            consumers=(
                ConsumerCost(
                    consumer="demo/me", active_us=SECOND, requests=1, input_tokens=31, output_tokens=8, amount="0.06"
                ),
            ),
            per_million_tokens="1538.46",
            notes=("one node was lost: its last hour is estimated",),
        ),
        "USD",
        "November",
    )
    text = "\n".join(lines)
    assert "PHASE     TIME  GPU-SECONDS     USD" in text
    assert "tokens       -            -  0.0100" in text
    assert "1 request, 31 tokens in, 8 out, USD 1538.46 per million." in text
    assert "demo/me   1.00 s         1  31 + 8  0.06" in text
    assert lines[-1] == "Note: one node was lost: its last hour is estimated"


def test_adapters_have_a_table_of_their_own() -> None:
    """Below that of the consumers; what is no adapter's is the model's."""
    one = AdapterCost(adapter="", active_us=SECOND, requests=1, input_tokens=31, output_tokens=8, amount="0.04")
    law = AdapterCost(adapter="law", active_us=2 * SECOND, requests=3, input_tokens=1, output_tokens=2, amount="0.0101")
    lines = cost_lines(endpoint(adapters=(one, law)), "USD", "November")
    assert lines[-3:] == [
        "ADAPTER             ACTIVE  REQUESTS  TOKENS     USD",
        "(the model itself)  1.00 s         1  31 + 8  0.0400",
        "law                 2.00 s         3   1 + 2  0.0101",
    ]


def test_the_table_of_endpoints() -> None:
    """A line each, amounts under each other."""
    lines = cost_table([endpoint(), endpoint(endpoint="big", accelerator="nvidia-l4", units=2, total="7")], True)
    assert lines[1].split() == ["demo/smollm2", "CPU", "1", "12.0", "s", "10.0", "s", "0", "0.0501", "12.00"]
    assert "2 × nvidia-l4" in lines[2] and "7.0000" in lines[2]


def test_time_in_the_queue_is_told_and_not_counted() -> None:
    """Nothing is allocated before a pod is scheduled, so it is in no total."""
    queued = endpoint(phases=(phase("queued", 60, "0"), phase("active", 10, "0.05")))
    assert cost_table([queued])[1].split()[3:5] == ["10.0", "s"]
    assert "queued  1 m 00 s" in "\n".join(cost_lines(queued, "USD", "November"))


def pod(name: str, ended: str) -> PodSegments:
    """Return the segments of a replica that loaded and served."""
    return PodSegments(
        namespace="demo",
        endpoint="smollm2",
        pod=name,
        pod_uid=name,
        node="n",
        accelerator="",
        units=0,
        cpu_milli=500,
        memory_bytes=1,
        created_us=NOW,
        allocated_from_us=NOW,
        allocated_to_us=NOW + 12 * SECOND,
        ended=ended,
        flags=(),
        segments=(
            SegmentView(from_us=NOW, to_us=NOW + 2 * SECOND, phase="loading"),
            SegmentView(from_us=NOW + 2 * SECOND, to_us=NOW + 12 * SECOND, phase="active"),
        ),
    )


def test_segments() -> None:
    """The replica's name stands once, its end or that it lives beside it; older ones are counted."""
    assert segment_lines((pod("a", "finished"), pod("b", "")), 1) == [
        "",
        "REPLICA    FROM                  PHASE      TIME",
        "b (lives)  2026-11-22T18:00:00Z  loading  2.00 s",
        "           2026-11-22T18:00:02Z  active   10.0 s",
        "1 older replica; --segments shows all.",
    ]
    assert len(segment_lines((pod("a", "finished"), pod("b", "")), None)) == 6
    assert segment_lines((), None) == []


def wake(total: int, amount: str | None) -> WakeCost:
    """Return a wake with two stages."""
    return WakeCost(
        namespace="demo",
        endpoint="smollm2",
        id="w",
        time_us=NOW - 60 * SECOND,
        cause="Request",
        total_us=total * SECOND,
        stages=(Stage(name="provision", us=SECOND), Stage(name="load", us=(total - 1) * SECOND)),
        amount=amount,
    )


def test_wakes() -> None:
    """A line each, and from two on how they are spread; a cost that is not known is a dash."""
    summary = tuple(StageSummary(name=name, p50_us=SECOND, p90_us=SECOND) for name in ("provision", "load", "total"))
    report = ColdStartReport(
        currency="USD", as_of_us=NOW, wakes=(wake(3, "0.001"), wake(4, None)), summary=summary, amount="0.001"
    )
    lines = wake_lines(report, NOW)
    assert lines[0].split() == ["ENDPOINT", "AGE", "CAUSE", "PROVISION", "LOAD", "TOTAL", "USD"]
    assert lines[1].split() == ["demo/smollm2", "60s", "Request", "1.00", "s", "2.00", "s", "3.00", "s", "0.001"]
    assert lines[2].split()[-1] == "-"
    assert [line.split()[0] for line in lines[3:]] == ["median", "p90"]
    assert len(wake_lines(report.model_copy(update={"wakes": (wake(3, "0.001"),)}), NOW)) == 2
    assert cold_share(report) == "", "an exporter that does not tell it"
    told = report.model_copy(update={"requests": 40, "cold_requests": 3})
    assert cold_share(told) == "; 3 of 40 requests (7.5%) came before a replica served"
