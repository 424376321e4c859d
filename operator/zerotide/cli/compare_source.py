"""What `zerotide plan compare` compares on: an endpoint's requests, bounds and prices, a trace, or made-up requests."""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import yaml

from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND, parse_duration
from zerotide.api.spec_scaling import Scaling
from zerotide.billing.elsewhere import Devices, replica_second
from zerotide.billing.prices import Meter, PriceIndex, read_price_book
from zerotide.billing.reports import ArrivalReport, CostReport
from zerotide.cli.advise import history_of
from zerotide.cli.arrivals import COLD_S, name_of, read_trace, recorded, replica_price
from zerotide.cli.errors import CliError, UsageError
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session
from zerotide.scaling.compare import MONTH_S, Workload, kept_warm, sleeps_after, steady
from zerotide.scaling.replay.fleet import Bounds
from zerotide.scaling.replay.simulate import Prices
from zerotide.scaling.replay.trace import DECODE_S, PREFILL_S, Arrivals

TIMEOUTS_S = (300.0, 60.0, 900.0)
"""Idle timeouts that are tried; the first is the field's default."""
CLASS = "nvidia-a100-80gb"
"""What a replica of nobody's endpoint runs on, unless it is said."""
SERVICE_S = 2.0
"""How long a made-up request is served whose tokens nobody said."""
ENOUGH = 20_000
"""Requests that are made up at most; a rate that makes more in a month is tried for a shorter time."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is compared on, and where each figure comes from; `second` is the price of a replica."""

    workload: Workload
    cold_s: float
    cold_by: str
    second: float
    second_by: str
    devices: Devices | None
    bounds: Bounds
    timeouts_s: list[float]
    """Those that are tried; the first one is what others' replicas are priced with, too."""
    kept: list[int]
    """How many replicas are tried to be kept warm."""
    currency: str = "USD"
    present: str = ""
    """The name of the way that the endpoint is kept now."""
    left_out: tuple[str, ...] = ()
    """What of its spec is not run here."""


def of_nobody(args: argparse.Namespace, now_us: int) -> Assumed:
    """Return what is assumed of requests that are no endpoint's."""
    workload = _with_tokens(_traced(args.trace) if args.trace else _made_up(args), args)
    devices = Devices(args.class_name or CLASS, args.count or 1)
    second, whose = (args.gpu_second, "as given") if args.gpu_second else _list_price(devices, now_us)
    cold_s, measured = _cold_start(args, None)
    bounds = _bounds(Scaling(), args)
    return Assumed(
        workload=workload,
        cold_s=cold_s,
        cold_by=measured,
        second=second,
        second_by=whose,
        devices=devices,
        bounds=bounds,
        timeouts_s=_timeouts(args) or [*TIMEOUTS_S],
        kept=_kept(args, bounds),
    )


def _cold_start(args: argparse.Namespace, known: str | None) -> tuple[float, str]:
    """Return the seconds of a start, and whose figure it is; `known` is what was measured."""
    if args.cold_start:
        return args.cold_start / SECOND, "as given"
    return (parse_duration(known) / SECOND, "as measured") if known else (COLD_S, "assumed")


async def of_endpoint(session: Session, args: argparse.Namespace) -> Assumed:
    """Return what is known of an endpoint: requests, bounds, what it was billed. Raises CliError without requests."""
    endpoint, arrivals, query, now_us = await recorded(session, args)
    return of_recorded(args, endpoint, arrivals, await fetch(session, CostReport, "cost", query), now_us)


def of_recorded(
    args: argparse.Namespace, endpoint: InferenceEndpoint, arrivals: ArrivalReport, cost: CostReport, now_us: int
) -> Assumed:
    """Return what an endpoint and the exporter's reports of it say. Raises CliError without requests, UsageError."""
    history = history_of(arrivals)
    if not history.arrivals.times or not history.span_s:
        raise CliError(f"no request of {args.name} is recorded in that time: give --rate N to see what would be")
    tokens = [each.tokens for each in cost.endpoints]
    # Of very many requests the exporter tells the newest; the bill is of all of them.
    share = len(history.arrivals.times) / max(sum(each.requests for each in tokens), 1)
    given, made = (round(sum(column) * share) for column in ([t.input for t in tokens], [t.output for t in tokens]))
    workload = _with_tokens(Workload(args.name, history.arrivals, history.span_s, given, made), args)
    cold_s, measured = _cold_start(args, endpoint.status.cold_starts.p50 if endpoint.status.cold_starts else None)
    devices = _devices(args, cost)
    second, whose = _price(args, cost, devices, now_us)
    scaling = endpoint.spec.scaling
    bounds, now_s = _bounds(scaling, args), scaling.idle.timeout.seconds
    return Assumed(
        workload=workload,
        cold_s=cold_s,
        cold_by=measured,
        second=second,
        second_by=whose,
        devices=devices,
        bounds=bounds,
        timeouts_s=[*_timeouts(args), now_s] if args.idle else [now_s, *TIMEOUTS_S],
        kept=[*_kept(args, bounds), scaling.kept_replicas],
        currency=cost.currency,
        present=_present(scaling, bounds),
        left_out=_left_out(scaling, bounds),
    )


def _present(scaling: Scaling, bounds: Bounds) -> str:
    """Return the name of the way that a spec asks for."""
    if scaling.kept_replicas:
        return "always on" if scaling.kept_replicas >= bounds.most else kept_warm(scaling.kept_replicas)
    return "learned" if scaling.idle.policy == "Learned" else sleeps_after(scaling.idle.timeout.seconds)


def _left_out(scaling: Scaling, bounds: Bounds) -> tuple[str, ...]:
    """Return what of a spec moves or holds replicas beside what is compared."""
    moves = {
        "pinnedReplicas": 0 < scaling.pinned_replicas < bounds.most,
        "schedules": bool(scaling.schedules),
        "prewarm": scaling.prewarm.mode == "Enabled",
    }
    return tuple(name for name, there in moves.items() if there)


def _devices(args: argparse.Namespace, cost: CostReport) -> Devices | None:
    if args.class_name:
        return Devices(args.class_name, args.count or 1)
    billed = next((each for each in cost.endpoints if each.accelerator), None)
    return Devices(billed.accelerator, args.count or billed.units) if billed else None


def _price(args: argparse.Namespace, cost: CostReport, devices: Devices | None, now_us: int) -> tuple[float, str]:
    """Return what a second of a replica costs, and who says so. Raises UsageError."""
    billed = replica_price(cost)
    if args.gpu_second:
        return args.gpu_second, "as given"
    if billed is not None and not args.class_name:
        return billed, "as billed"
    if devices is not None:
        return _list_price(devices, now_us)
    return Prices().gpu, "assumed: nothing was billed for it, and it has no class of accelerators"


def _bounds(scaling: Scaling, args: argparse.Namespace) -> Bounds:
    """Return the bounds of a spec as the options change them. Raises UsageError."""
    most, target = args.max_replicas or scaling.max_replicas, args.target or scaling.concurrency.target
    limit = args.limit or scaling.concurrency.limit
    if limit and target > limit:
        raise UsageError(f"--target {target} is more than the {limit} requests that a replica takes at once (--limit)")
    if args.keep_warm and max(args.keep_warm) >= most:
        raise UsageError(f"--keep-warm {max(args.keep_warm)} is no less than the {most} that there may be at most")
    return Bounds(most=most, target=target, limit=limit, down_s=scaling.stabilization.scale_down.seconds)


def _timeouts(args: argparse.Namespace) -> list[float]:
    return [us / SECOND for us in args.idle or ()]


def _kept(args: argparse.Namespace, bounds: Bounds) -> list[int]:
    """Return how many replicas are kept warm of so many at most: as asked for, else one to three."""
    return list(args.keep_warm or range(1, min(bounds.most, 4)))


def _traced(path: Path) -> Workload:
    rows = read_trace(path)
    arrivals = Arrivals(tuple(row.time_s for row in rows), tuple(row.service_s for row in rows))
    given, made = sum(row.context for row in rows), sum(row.generated for row in rows)
    return Workload(name_of(path), arrivals, max(row.time_s + row.service_s for row in rows), given, made)


def _made_up(args: argparse.Namespace) -> Workload:
    if (args.input_tokens is None) != (args.output_tokens is None):
        raise UsageError("--input-tokens and --output-tokens belong together: give both, or neither")
    span_s = min(MONTH_S, ENOUGH / args.rate * 3_600)
    service_s = args.input_tokens * PREFILL_S + args.output_tokens * DECODE_S if args.output_tokens else SERVICE_S
    arrivals = steady(args.rate, service_s, span_s, random.Random(args.seed))
    if not arrivals.times:
        raise UsageError(f"--rate {args.rate:g} an hour makes no request in a month: give a higher one")
    return Workload(f"{args.rate:g} an hour", arrivals, span_s)


def _with_tokens(workload: Workload, args: argparse.Namespace) -> Workload:
    given, made = args.input_tokens, args.output_tokens
    return replace(
        workload,
        input_tokens=workload.input_tokens if given is None else given * workload.requests,
        output_tokens=workload.output_tokens if made is None else made * workload.requests,
    )


def _list_price(devices: Devices, at_us: int) -> tuple[float, str]:
    """Return what a replica costs in a second by the price file that ships, and who asks that. Raises UsageError."""
    shipped = files("zerotide.billing").joinpath("prices.yaml").read_text()
    index = PriceIndex(read_price_book(yaml.safe_load(shipped)))
    price = index.at(Meter.ACCELERATOR_TIME, devices.class_name, at_us)
    if price is None:
        known = sorted({each.accelerator_class_name for each in index.book.prices if each.accelerator_class_name})
        raise UsageError(
            f"no shipped price is for the class {devices.class_name!r}: give --gpu-second, or one of {', '.join(known)}"
        )
    return replica_second(price, devices.units), price.source
