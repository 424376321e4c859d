"""What the control plane's benchmark makes of its measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.wake.table import quantile
from bench.wire.processes import Running


@dataclass
class Outcome:
    """One run; times in seconds, processor times by process in seconds, memory in MiB."""

    endpoints: int
    service_type: str = "EndpointSlice"
    ready_s: float = 0.0
    made_s: float = 0.0
    """Until the last endpoint was created, by whoever creates them."""
    cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, float] = field(default_factory=dict)
    """The operator's memory after each step."""
    writes: Counter[str] = field(default_factory=Counter)
    """Writes until all were ready, by resource."""
    rounds: float = 0.0
    """Times that the operator looked at an endpoint until then."""
    idle_s: float = 0.0
    idle_writes: Counter[str] = field(default_factory=Counter)
    idle_cpu_s: float = 0.0
    again_s: float = 0.0
    """Until an operator that was started again had looked at every endpoint."""
    again_cpu_s: float = 0.0
    again_rounds: float = 0.0
    burst: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of endpoints that were woken together."""
    alone: dict[str, list[float]] = field(default_factory=dict)
    """The same of some that were woken one after the other."""
    wakes: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from the first byte of each request: until a pod was made, was ready, and until the answer."""
    wake_cpu: dict[str, float] = field(default_factory=dict)
    wake_writes: Counter[str] = field(default_factory=Counter)
    """Writes until all of them were answered, by resource."""
    wake_reasons: Counter[str] = field(default_factory=Counter)
    """Events meanwhile, by reason."""

    def note(self, step: str, operator: Running) -> None:
        """Note the operator's memory."""
        self.rss[step] = operator.rss() / 2**20


def result(it: Outcome) -> dict[str, Any]:
    """Return what the RESULT line says; None where nothing was measured."""
    count = max(it.endpoints, 1)
    return {
        "endpoints": it.endpoints,
        "service_type": it.service_type,
        "ready_s": round(it.ready_s, 1),
        "cpu_ms_per_endpoint": round(it.cpu.get("operator", 0.0) * 1000 / count, 2),
        "rss_mib": round(max(it.rss.values(), default=0.0), 1),
        "rss_after": {step: round(mib, 1) for step, mib in it.rss.items()},
        "idle_writes_per_min": round(sum(it.idle_writes.values()) * 60 / it.idle_s, 2) if it.idle_s else None,
        "wake_1000_p90_ms": _ms(it.wakes.get("answer", []), 0.9),
        "wakes": {name: {"p50_ms": _ms(each, 0.5), "p90_ms": _ms(each, 0.9)} for name, each in it.wakes.items()},
        "alone": {name: {"p50_ms": _ms(each, 0.5), "most_ms": _most_ms(each)} for name, each in it.alone.items()},
        "burst": {name: _spread(each) for name, each in it.burst.items()},
        "woken": len(it.wakes.get("answer", [])),
        "writes_per_wake": _each(it.wake_writes, len(it.wakes.get("answer", []))),
        "writes_per_endpoint": _each(it.writes, count),
        "rounds_per_endpoint": round(it.rounds / count, 2),
        "idle_cpu_percent": round(it.idle_cpu_s * 100 / it.idle_s, 2) if it.idle_s else None,
        "again_s": round(it.again_s, 1),
        "again_cpu_ms_per_endpoint": round(it.again_cpu_s * 1000 / count, 2),
        "again_rounds_per_endpoint": round(it.again_rounds / count, 2),
    }


def table(it: Outcome) -> str:
    """Return what people read."""
    said = result(it)
    count, woken = max(it.endpoints, 1), max(said["woken"], 1)
    made = f"all made after {it.made_s:.1f} s, all ready after {it.ready_s:.1f} s"
    lines = [f"{it.endpoints} endpoints with Services of type {it.service_type}: {made}"]
    lines += [f"  {name:26} {each * 1000 / count:8.2f} ms of processor for each" for name, each in _most(it.cpu)]
    lines.append("  writes for each: " + _told(said["writes_per_endpoint"]))
    lines.append(f"operator: {said['rounds_per_endpoint']} looks at each; memory in MiB: " + _told(said["rss_after"]))
    if it.idle_s:
        told = ", ".join(f"{name} {each}" for name, each in it.idle_writes.items() if each) or "none"
        lines.append(f"idle for {it.idle_s:.0f} s: writes {told}; {said['idle_cpu_percent']} % of a core")
    if it.again_s:
        each = f"{said['again_cpu_ms_per_endpoint']} ms and {said['again_rounds_per_endpoint']} looks for each"
        lines.append(f"operator started again: {it.again_s:.1f} s, {each}")
    for name, each in said["alone"].items():
        lines.append(f"{len(it.alone[name])} alone, {name}: p50 {each['p50_ms']} ms, most {each['most_ms']} ms")
    for name, each in said["burst"].items():
        lines.append(f"{len(it.burst[name])} in bursts, {name}: " + _told(each))
    for name, each in said["wakes"].items():
        lines.append(f"{said['woken']} woken at once, {name}: p50 {each['p50_ms']} ms, p90 {each['p90_ms']} ms")
    lines += [f"  {name:26} {each * 1000 / woken:8.2f} ms of processor for each" for name, each in _most(it.wake_cpu)]
    if it.wake_writes:
        lines.append("  writes for each: " + _told(said["writes_per_wake"]))
        lines.append("  Events: " + _told(dict(it.wake_reasons.most_common())))
    return "\n".join(lines)


def _spread(values: list[float]) -> dict[str, float | None]:
    return {"p50_ms": _ms(values, 0.5), "p90_ms": _ms(values, 0.9), "most_ms": _most_ms(values)}


def _told(figures: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {figure}" for name, figure in figures.items())


def _each(written: Counter[str], count: int) -> dict[str, float]:
    return {name: round(each / count, 2) for name, each in written.most_common() if each} if count else {}


def _most(cpu: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(cpu.items(), key=lambda item: -item[1])


def _ms(values: list[float], q: float) -> float | None:
    return round(quantile(values, q) * 1000, 1) if values else None


def _most_ms(values: list[float]) -> float | None:
    return round(max(values) * 1000, 1) if values else None
