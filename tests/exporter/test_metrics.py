"""Metrics show what is stored, in names that users know."""

from __future__ import annotations

from fractions import Fraction

from prometheus_client import exposition

from zerotide.exporter.metrics import LedgerCollector, registry


def test_counters_and_gauges_are_shown() -> None:
    collector = LedgerCollector(
        {"zerotide_ledger_lag_seconds": ("Age.", lambda: 1.5)},
        webhooks=lambda: {("demo", "month", "delivered"): 3},
        undelivered=lambda: {("demo", "month", "retrying"): 2},
    )
    made = registry(collector)
    assert b"zerotide_gpu_seconds_total{" not in exposition.generate_latest(made)
    collector.publish(
        {
            ("gpu_seconds", ("demo", "smollm2", "active", "nvidia-l4")): Fraction(1, 4),
            ("cpu_seconds", ("demo", "tiny", "loading")): Fraction(3),
            ("tokens", ("demo", "smollm2", "demo/team-a", "output")): Fraction(12),
            ("cost", ("demo", "smollm2", "USD", "active")): Fraction(1, 8),
        }
    )
    text = exposition.generate_latest(made).decode()
    where = 'inference_endpoint="smollm2",namespace="demo"'
    for line in (
        f'zerotide_gpu_seconds_total{{accelerator="nvidia-l4",{where},phase="active"}} 0.25',
        'zerotide_cpu_seconds_total{inference_endpoint="tiny",namespace="demo",phase="loading"} 3.0',
        f'zerotide_tokens_total{{consumer="demo/team-a",{where},type="output"}} 12.0',
        'zerotide_cost_total{currency="USD",inference_endpoint="smollm2",namespace="demo",phase="active"} 0.125',
        "zerotide_ledger_lag_seconds 1.5",
        'zerotide_budget_webhooks_total{budget="month",namespace="demo",outcome="delivered"} 3.0',
        'zerotide_budget_webhooks_undelivered{budget="month",namespace="demo",state="retrying"} 2.0',
        'zerotide_build_info{component="exporter",version="',
    ):
        assert line in text
