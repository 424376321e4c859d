"""`zerotide list`, `get` and `url`: what there is, in what state, and where it is called."""

from __future__ import annotations

import argparse

from zerotide.api.endpoint import InferenceEndpoint, Status
from zerotide.api.failures import InvalidObject
from zerotide.api.scalars import parse_duration, parse_time
from zerotide.api.spec_schedules import Override
from zerotide.cli import gateway
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.output import format_age, format_bytes, format_fields, format_span, format_table, one_line
from zerotide.cli.session import Session
from zerotide.kube import Object
from zerotide.kube.resources import INFERENCE_ENDPOINTS


def add(commands: Subparsers) -> None:
    """Declare the commands."""
    parser = declare(
        commands,
        "list",
        list_endpoints,
        "list endpoints with their state",
        examples="zerotide list -A\nzerotide list --json | jq -r '.[].metadata.name'",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print names only, as namespace/name with -A")
    parser = declare(
        commands,
        "get",
        get_endpoint,
        "show one endpoint: state, conditions, last cold start, decisions",
        examples="zerotide get smollm2 -n demo",
    )
    parser.add_argument("name", help="the endpoint")
    parser = declare(
        commands,
        "url",
        print_url,
        "print the address under which an endpoint is called",
        text="Print the address under which an endpoint is called; OpenAI clients take it with /v1 at the end.",
        examples='zerotide url smollm2\ncurl "$(zerotide url smollm2)/info"',
    )
    parser.add_argument("name", help="the endpoint")


async def list_endpoints(session: Session, args: argparse.Namespace) -> None:
    """Print a table of the endpoints, or their names."""
    items, printer = await session.list(INFERENCE_ENDPOINTS), session.printer
    if printer.as_json:
        printer.json(items)
        return
    if args.quiet:
        for item in items:
            name = item["metadata"]["name"]
            printer.data(f"{item['metadata']['namespace']}/{name}" if session.all_namespaces else name)
        return
    if not items:
        printer.prose(f"No endpoints in {await session.where()}: make one with `zerotide deploy`.")
        return
    header = ["NAME", "STATE", "READY", "REPLICAS", "ENGINE", "MODEL", "COLD-P90", "MONTH", "LAST-USED", "AGE"]
    rows = [_row(item, session.clock.now_us()) for item in items]
    if session.all_namespaces:
        header = ["NAMESPACE", *header]
        rows = [[item["metadata"]["namespace"], *row] for item, row in zip(items, rows, strict=True)]
    printer.table(header, rows)


def _row(item: Object, now_us: int) -> list[str]:
    status, spec = Status.read(item.get("status")), item.get("spec") or {}
    ready = status.condition("Ready")
    cold = status.cold_starts.p90 if status.cold_starts else None
    model = status.model.name if status.model else (spec.get("model") or {}).get("name") or item["metadata"]["name"]
    return [
        item["metadata"]["name"],
        status.state or "",
        ready.status if ready else "",
        f"{status.ready_replicas or 0}/{status.desired_replicas or 0}",
        str((spec.get("runtime") or {}).get("engine") or ""),
        one_line(model, 32),
        format_span(parse_duration(cold)) if cold else "",
        f"{status.cost.month_to_date} {status.cost.currency}" if status.cost else "",
        format_age(status.last_activity_time, now_us),
        format_age(item["metadata"].get("creationTimestamp"), now_us),
    ]


async def get_endpoint(session: Session, args: argparse.Namespace) -> None:
    """Print everything about one endpoint that a person wants to know first."""
    item = await session.get(INFERENCE_ENDPOINTS, args.name)
    if session.printer.as_json:
        session.printer.json(item)
        return
    for line in describe(item, session.clock.now_us()):
        session.printer.data(line)


def describe(item: Object, now_us: int) -> list[str]:
    """Return the lines of `zerotide get`; an object that an older or newer version wrote is shown as far as it goes."""
    status = Status.read(item.get("status"))
    lines = [*_head(item, status, now_us), *_conditions(status, now_us)]
    if status.last_wake is not None:
        wake = status.last_wake
        lines += [
            "",
            f"Last cold start: {format_span(wake.total_us)}, {wake.cause}, {format_age(wake.time, now_us)} ago",
        ]
        rows = [[stage.name, format_span(parse_duration(stage.duration))] for stage in wake.stages]
        lines += _indent(format_table(["STAGE", "TIME"], rows, right=["TIME"]))
    if status.decisions:
        lines += ["", "Decisions:"]
        rows = [
            [format_age(d.time, now_us), f"{d.from_replicas} → {d.to_replicas}", d.reason, one_line(d.message, 70)]
            for d in status.decisions
        ]
        lines += _indent(format_table(["AGE", "REPLICAS", "REASON", "MESSAGE"], rows))
    return lines


def _head(item: Object, status: Status, now_us: int) -> list[str]:
    metadata = item["metadata"]
    fields = [
        ("Name", f"{metadata['namespace']}/{metadata['name']}"),
        ("State", status.state or "Unknown (the operator has not seen it yet)"),
        ("Replicas", f"{status.ready_replicas or 0} ready of {status.desired_replicas or 0} wanted"),
    ]
    try:
        fields += _intent(InferenceEndpoint.parse(item), now_us)
    except InvalidObject as error:
        fields.append(("Spec", str(error)))
    fields += [
        ("Weights", _weights(status)),
        ("Address", status.url or ""),
        ("Last used", _ago(status.last_activity_time, now_us)),
        ("Kept awake by", status.kept_awake_by or ""),
        ("Schedule", _schedule(status)),
        ("Learned idle", f"{status.idle.timeout}, {status.idle.message}" if status.idle else ""),
        ("Prewarm", status.prewarm.message if status.prewarm else ""),
        ("Cold starts", _cold_starts(status)),
        ("Cost", _cost(status)),
        ("Failed starts", _failed_starts(status)),
        ("Created", _ago(metadata.get("creationTimestamp"), now_us)),
    ]
    return format_fields(fields)


def _intent(endpoint: InferenceEndpoint, now_us: int) -> list[tuple[str, str]]:
    spec = endpoint.spec
    scaling = spec.scaling
    pinned = f", pinned to {scaling.pinned_replicas}" if scaling.pinned_replicas else ""
    return [
        ("Model", f"{', '.join(endpoint.model_names)} from {spec.model.uri}"),
        ("Engine", f"{spec.runtime.engine.value}{f' in {spec.runtime.image}' if spec.runtime.image else ''}"),
        ("Accelerators", _accelerators(endpoint)),
        ("Scaling", f"{scaling.min_replicas} to {scaling.max_replicas}{pinned}, idle after {scaling.idle.timeout}"),
        ("Override", _override(scaling.override, now_us)),
        ("Access", f"JWT of {spec.access.jwt.issuer}" if spec.access.jwt is not None else spec.access.auth),
        ("Suspended", "yes: `zerotide resume` ends it" if spec.suspend else ""),
    ]


def _override(override: Override | None, now_us: int) -> str:
    if override is None:
        return ""
    over = "" if now_us < parse_time(override.until) else ", which is over"
    return f"at least {override.min_replicas} until {override.until}{over}"


def _accelerators(endpoint: InferenceEndpoint) -> str:
    wanted, chosen = endpoint.spec.accelerator, endpoint.status.accelerator
    if wanted is None:
        return "none, CPU"
    text = f"{wanted.count} × {wanted.class_name or 'GPU'} per replica"
    if chosen is not None and (chosen.class_name, chosen.count) != (wanted.class_name, wanted.count):
        text += f", now {chosen.summary}"
    return text


def _conditions(status: Status, now_us: int) -> list[str]:
    if not status.conditions:
        return []
    rows = [
        [c.type, c.status, c.reason, format_age(c.last_transition_time, now_us), one_line(c.message, 70)]
        for c in status.conditions
    ]
    return ["", "Conditions:", *_indent(format_table(["TYPE", "STATUS", "REASON", "AGE", "MESSAGE"], rows))]


def _schedule(status: Status) -> str:
    window = status.schedule
    if window is None:
        return ""
    lead = f", started {window.lead_time} earlier" if window.lead_time != "0s" else ""
    return f"{window.name}: {window.min_replicas} from {window.start_time} to {window.end_time}{lead}"


def _cold_starts(status: Status) -> str:
    cold = status.cold_starts
    if cold is None or cold.p50 is None or cold.p90 is None:
        return ""
    p50, p90 = format_span(parse_duration(cold.p50)), format_span(parse_duration(cold.p90))
    return f"median {p50}, p90 {p90}, of the last {cold.count}"


def _cost(status: Status) -> str:
    cost = status.cost
    if cost is None:
        return ""
    parts = [f"{cost.month_to_date} {cost.currency} in {cost.month}", f"{cost.day_to_date} on {cost.day}"]
    if cost.last_cold_start is not None:
        parts.append(f"{cost.last_cold_start} for the last cold start")
    if cost.per_million_tokens is not None:
        parts.append(f"{cost.per_million_tokens} per million tokens")
    return ", ".join(parts)


def _failed_starts(status: Status) -> str:
    failed = status.failed_starts
    if failed is None:
        return ""
    text = f"{failed.count} since {failed.since}: {failed.reason}"
    cost = status.cost
    if cost is not None and cost.failed_starts is not None:
        burnt = cost.failed_starts
        seconds = f"{burnt.accelerator_seconds} accelerator-seconds, " if burnt.accelerator_seconds else ""
        text += f"; used up {seconds}{burnt.amount} {cost.currency}"
    return text


def _weights(status: Status) -> str:
    model = status.model
    if model is None:
        return ""
    size = format_bytes(model.bytes) if model.bytes is not None else ""
    return ", ".join(part for part in (size, model.digest, model.revision and f"revision {model.revision}") if part)


def _ago(time: str | None, now_us: int) -> str:
    return f"{time} ({format_age(time, now_us)} ago)" if time else ""


def _indent(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


async def print_url(session: Session, args: argparse.Namespace) -> None:
    """Print the address through the gateway that the environment names, else the one within the cluster."""
    item = await session.get(INFERENCE_ENDPOINTS, args.name)
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    outside = gateway.from_environment()
    inside = Status.read(item.get("status")).url or f"http://{name}.{namespace}.svc"
    url = gateway.endpoint_url(outside, namespace, name) if outside else inside
    if session.printer.as_json:
        session.printer.json({"url": url, "openaiBaseURL": f"{url}/v1", "inCluster": inside})
        return
    session.printer.data(url)
    if not outside:
        session.printer.prose(
            "This address works inside the cluster. From outside, set ZEROTIDE_GATEWAY, or run\n"
            f"  kubectl port-forward -n {session.system_namespace} service/zerotide-gateway 8080:80\n"
            f"and call http://127.0.0.1:8080/endpoints/{namespace}/{name}"
        )
