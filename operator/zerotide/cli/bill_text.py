"""Bills as people read them: pure functions from reports to lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from zerotide.api.base import format_time
from zerotide.billing.reports import AdapterCost, ColdStartReport, ConsumerCost, EndpointCost, PodSegments, WakeCost
from zerotide.cli.output import count, format_age, format_number, format_span, format_table


def money(amount: str, places: int = 2) -> str:
    """Return an amount with cents, and with the further digits that the ledger kept."""
    return f"{Decimal(amount):.{max(places, _places(amount))}f}"


def _places(amount: str) -> int:
    return -int(Decimal(amount).normalize().as_tuple().exponent)


def monies(amounts: Sequence[str | None]) -> list[str]:
    """Return amounts of one column, all with as many digits as the longest needs; empty for None."""
    places = max((_places(amount) for amount in amounts if amount is not None), default=2)
    return ["" if amount is None else money(amount, max(2, places)) for amount in amounts]


def cost_table(endpoints: Sequence[EndpointCost], with_namespace: bool = False) -> list[str]:
    """Return a line for each endpoint."""
    header = ["ENDPOINT", "ACCELERATOR", "REPLICAS", "ALLOCATED", "ACTIVE", "REQUESTS", "COST", "ALWAYS-ON"]
    totals = monies([endpoint.total for endpoint in endpoints])
    always_on = monies([endpoint.always_on for endpoint in endpoints])
    rows = [
        [
            f"{endpoint.namespace}/{endpoint.endpoint}" if with_namespace else endpoint.endpoint,
            f"{endpoint.units} × {endpoint.accelerator}" if endpoint.accelerator else "CPU",
            str(endpoint.replicas),
            format_span(_allocated(endpoint)),
            format_span(sum(phase.replica_us for phase in endpoint.phases if phase.phase == "active")),
            str(endpoint.tokens.requests),
            total,
            always,
        ]
        for endpoint, total, always in zip(endpoints, totals, always_on, strict=True)
    ]
    return format_table(header, rows, right=header[2:])


def cost_lines(endpoint: EndpointCost, currency: str, period: str) -> list[str]:
    """Return one endpoint's bill."""
    lines = [
        f"{endpoint.namespace}/{endpoint.endpoint}, {period}",
        "",
        *_phases(endpoint, currency),
        "",
        f"One replica always on would have cost {currency} {money(endpoint.always_on)}.",
    ]
    tokens = endpoint.tokens
    if tokens.requests:
        each = f", {currency} {money(endpoint.per_million_tokens)} per million" if endpoint.per_million_tokens else ""
        lines.append(f"{count(tokens.requests, 'request')}, {tokens.input} tokens in, {tokens.output} out{each}.")
    if endpoint.consumers:
        lines += ["", *_shares("CONSUMER", {each.consumer: each for each in endpoint.consumers}, currency)]
    if endpoint.adapters:
        named = {each.adapter or "(the model itself)": each for each in endpoint.adapters}
        lines += ["", *_shares("ADAPTER", named, currency)]
    return [*lines, *(f"Note: {note}" for note in endpoint.notes)]


def _allocated(endpoint: EndpointCost) -> int:
    # Time in the scheduler's queue is told, but nothing is allocated then.
    return sum(phase.replica_us for phase in endpoint.phases if phase.phase != "queued")


def _phases(endpoint: EndpointCost, currency: str) -> list[str]:
    gpu = any(Decimal(phase.accelerator_seconds) for phase in endpoint.phases)
    header = ["PHASE", "TIME", *(["GPU-SECONDS"] if gpu else ["CPU-SECONDS", "GIB-SECONDS"]), currency]
    tokens = endpoint.tokens.amount if Decimal(endpoint.tokens.amount) else None
    *amounts, token_amount, total = monies([*(phase.amount for phase in endpoint.phases), tokens, endpoint.total])
    rows = []
    for phase, amount in zip(endpoint.phases, amounts, strict=True):
        used = [phase.accelerator_seconds] if gpu else [phase.cpu_seconds, phase.memory_gib_seconds]
        numbers = [format_number(Decimal(number), 2) for number in used]
        rows.append([phase.phase, format_span(phase.replica_us), *numbers, amount])
    blank = [""] * (len(header) - 3)
    if tokens is not None:
        rows.append(["tokens", "", *blank, token_amount])
    rows.append(["total", format_span(_allocated(endpoint)), *blank, total])
    return format_table(header, rows, right=header[1:])


def _shares(title: str, shares: Mapping[str, ConsumerCost | AdapterCost], currency: str) -> list[str]:
    """Return a table of whose use was how much, by name."""
    header = [title, "ACTIVE", "REQUESTS", "TOKENS", currency]
    amounts = monies([share.amount for share in shares.values()])
    rows = [
        [
            name,
            format_span(share.active_us),
            str(share.requests),
            f"{share.input_tokens} + {share.output_tokens}",
            amount,
        ]
        for (name, share), amount in zip(shares.items(), amounts, strict=True)
    ]
    return format_table(header, rows, right=header[1:])


def segment_lines(pods: Sequence[PodSegments], newest: int | None) -> list[str]:
    """Return the segments of replicas, the newest last; None shows all of them."""
    shown = pods if newest is None else pods[-newest:]
    if not shown:
        return []
    rows = []
    for pod in shown:
        name = f"{pod.pod} ({pod.ended or 'lives'})"
        for number, segment in enumerate(pod.segments):
            span = format_span(segment.to_us - segment.from_us)
            # A blank that is no empty cell: the name stands once.
            rows.append([" " if number else name, format_time(segment.from_us), segment.phase, span])
    left = len(pods) - len(shown)
    more = [f"{count(left, 'older replica')}; --segments shows all."] if left else []
    return ["", *format_table(["REPLICA", "FROM", "PHASE", "TIME"], rows, right=["TIME"]), *more]


def wake_lines(report: ColdStartReport, now_us: int) -> list[str]:
    """Return the table of the wakes, newest first, with median and p90 of each stage under it."""
    stages = [stage.name for stage in report.summary if stage.name != "total"]
    header = ["ENDPOINT", "AGE", "CAUSE", *(stage.upper() for stage in stages), "TOTAL", report.currency]
    amounts = monies([wake.amount for wake in report.wakes])
    rows = [_wake(wake, stages, amount, now_us) for wake, amount in zip(report.wakes, amounts, strict=True)]
    if len(rows) > 1:
        spread = {stage.name: stage for stage in report.summary}
        kept = [spread[name] for name in (*stages, "total") if name in spread]
        rows.append(["median", " ", " ", *(format_span(stage.p50_us) for stage in kept), " "])
        rows.append(["p90", " ", " ", *(format_span(stage.p90_us) for stage in kept), " "])
    return format_table(header, rows, right=header[3:])


def cold_share(report: ColdStartReport) -> str:
    """Return how many of the requests came before a replica served; empty where there are none."""
    if not report.requests:
        return ""
    share = report.cold_requests / report.requests
    return f"; {report.cold_requests} of {count(report.requests, 'request')} ({share:.1%}) came before a replica served"


def _wake(wake: WakeCost, stages: Sequence[str], amount: str, now_us: int) -> list[str]:
    took = {stage.name: format_span(stage.us) for stage in wake.stages}
    return [
        f"{wake.namespace}/{wake.endpoint}",
        format_age(format_time(wake.time_us), now_us),
        wake.cause,
        *(took.get(stage, "") for stage in stages),
        format_span(wake.total_us),
        amount,
    ]
