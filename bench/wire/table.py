"""What the figures come to: rows for people, keys for machines."""

from __future__ import annotations

from typing import Any

from bench.wire.load import Load
from bench.wire.measure import STREAM_INTERVALS_US, Figures, median

Row = dict[str, float]


def quantile(values: list[int], q: float) -> float:
    """Return a quantile of values, the nearest one that is there; 0 of nothing."""
    ordered = sorted(values)
    return float(ordered[round(q * (len(ordered) - 1))]) if ordered else 0.0


def rows(figures: dict[str, Figures]) -> dict[str, Row]:
    """Return each peer's row; times in microseconds, added ones over the direct way of the same run."""
    direct = pooled(figures["direct"].paced)
    result = {}
    for name, mine in figures.items():
        latencies = pooled(mine.paced)
        row = {
            "rps": median([load.rate for load in mine.closed]),
            "cpu_us": per(mine.closed, "answered"),
            "paced_cpu_us": per(mine.paced, "answered"),
            "p50_us": quantile(latencies, 0.5),
            "p99_us": quantile(latencies, 0.99),
        }
        row["added_p50_us"] = row["p50_us"] - quantile(direct, 0.5)
        row["added_p99_us"] = row["p99_us"] - quantile(direct, 0.99)
        for step, loads in mine.streams.items():
            row[f"{step} events"] = median([load.events / load.seconds for load in loads])
            row[f"{step} cpu_us"] = per(loads, "events")
            row[f"{step} streams"] = min(load.streams for load in loads)
            row[f"{step} delay_p50_us"] = median([load.delay.p50 for load in loads])
            row[f"{step} delay_p99_us"] = median([load.delay.p99 for load in loads])
        result[name] = row
    return result


def pooled(loads: list[Load]) -> list[int]:
    """Return the latencies of all rounds together, in microseconds."""
    return [latency for load in loads for latency in load.raw]


def per(loads: list[Load], what: str) -> float:
    """Return the processor time per answer or event over all rounds, in microseconds."""
    total: int = sum(getattr(load, what) for load in loads)
    return sum(load.cpu_us for load in loads) / max(total, 1)


def table(by_peer: dict[str, Row], absent: dict[str, str]) -> str:
    """Return the table for people."""
    lines = [
        f"{'':10}{'32 connections':>26}{'500 requests a second':>38}",
        f"{'':10}{'req/s':>10}{'CPU us':>8}{'/core':>8}{'CPU us':>8}{'p50 ms':>8}{'p99 ms':>8}{'+p50':>7}{'+p99':>7}",
    ]
    for name, row in by_peer.items():
        core = 1e6 / row["cpu_us"] if row["cpu_us"] else 0.0
        lines.append(
            f"{name:10}{row['rps']:10,.0f}{row['cpu_us']:8.1f}{core:8,.0f}{row['paced_cpu_us']:8.0f}"
            f"{row['p50_us'] / 1e3:8.2f}{row['p99_us'] / 1e3:8.2f}"
            f"{row['added_p50_us'] / 1e3:7.2f}{row['added_p99_us'] / 1e3:7.2f}"
        )
    lines += [f"{name:10}{why}" for name, why in absent.items()]
    if any("streams full events" in row for row in by_peer.values()):
        lines += _streams(by_peer)
    return "\n".join(lines)


def ratios(by_peer: dict[str, Row]) -> str:
    """Return how many requests ours takes for each one of another peer's, by processor time."""
    ours = by_peer["ours"]["cpu_us"]
    told = [
        f"{row['cpu_us'] / ours:.2f} of {name}" for name, row in by_peer.items() if name != "ours" and row["cpu_us"]
    ]
    return "requests per core, ours: " + ", ".join(told) if ours else ""


def _streams(by_peer: dict[str, Row]) -> list[str]:
    lines = [
        "",
        f"{'1000':10}{'50,000 events a second':>38}{'as fast as they come':>38}",
        f"{'streams':10}{'events/s':>10}{'CPU us':>8}{'p50 ms':>10}{'p99 ms':>10}"
        f"{'events/s':>10}{'CPU us':>8}{'p50 ms':>10}{'p99 ms':>10}",
    ]
    for name, row in by_peer.items():
        line = f"{name:10}"
        for step in STREAM_INTERVALS_US:
            line += f"{row[f'{step} events']:10,.0f}{row[f'{step} cpu_us']:8.1f}"
            line += f"{row[f'{step} delay_p50_us'] / 1e3:10.2f}{row[f'{step} delay_p99_us'] / 1e3:10.2f}"
        lines.append(line)
    return lines


def result(by_peer: dict[str, Row]) -> dict[str, Any]:
    """Return the figures for machines; None where a peer took no part."""

    def take(peer: str, key: str, scale: float = 1.0, digits: int = 0) -> float | None:
        row = by_peer.get(peer)
        if row is None or key not in row:
            return None
        return round(row[key] / scale, digits) if digits else round(row[key] / scale)

    return {
        "ours_rps": take("ours", "rps"),
        "knative_rps": take("knative", "rps"),
        "haproxy_rps": take("haproxy", "rps"),
        "direct_rps": take("direct", "rps"),
        "bare_rps": take("bare", "rps"),
        "ours_cpu_us": take("ours", "cpu_us", digits=1),
        "knative_cpu_us": take("knative", "cpu_us", digits=1),
        "bare_cpu_us": take("bare", "cpu_us", digits=1),
        "ours_added_p50_ms": take("ours", "added_p50_us", 1e3, 3),
        "ours_added_p99_ms": take("ours", "added_p99_us", 1e3, 3),
        "knative_added_p99_ms": take("knative", "added_p99_us", 1e3, 3),
        "sse_chunks_per_s": take("ours", "streams full events"),
    }
