"""`zerotide doctor`: is everything in place, and if not, what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import aiohttp

from zerotide.api.base import parse_time
from zerotide.api.endpoint import Status
from zerotide.api.names import (
    MANAGER_ACTIVATOR,
    MANAGER_EXPORTER,
    MANAGER_OPERATOR,
    PLURAL_API_KEYS,
    PLURAL_ENDPOINTS,
    RESOURCE_GPU,
    SERVICE_EXPORTER,
)
from zerotide.api.scalars import SECOND
from zerotide.cli import gateway
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.errors import CliError
from zerotide.cli.output import format_age, one_line
from zerotide.cli.session import Session
from zerotide.kube import Client, ConnectionFailed, CredentialsError, Forbidden, KubeError, NotFound, Object, Resource
from zerotide.kube.resources import (
    DEPLOYMENTS,
    INFERENCE_ENDPOINTS,
    LEASES,
    NODES,
    PODS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    SERVICES,
)

POLICIES = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """What one check found; `advice` says what to do where it is not ok."""

    check: str
    level: Level
    found: str
    advice: str = ""


def add(commands: Subparsers) -> None:
    """Declare the command."""
    declare(
        commands,
        "doctor",
        doctor,
        "check the installation and say what to do about what is wrong",
        text="Check the cluster, the installation and the endpoints. The exit code is 1 when something is bad.",
        examples="zerotide doctor\nzerotide doctor --json | jq '.[] | select(.level != \"ok\")'",
    )


async def doctor(session: Session, args: argparse.Namespace) -> int:
    """Print one line per check, and advice under each that is not ok."""
    findings = [finding async for finding in _examine(session)]
    printer = session.printer
    if printer.as_json:
        printer.json([asdict(finding) for finding in findings])
    else:
        printer.table(["CHECK", "RESULT", "FOUND"], [[f.check, f.level, one_line(f.found, 80)] for f in findings])
        for finding in findings:
            if finding.advice:
                printer.prose(f"{finding.check}: {finding.advice}")
    return 1 if any(finding.level == "bad" for finding in findings) else 0


async def _examine(session: Session) -> Any:
    try:
        client = await session.client()
        version = str((await client.request("GET", "/version")).get("gitVersion", ""))
    except (ConnectionFailed, CredentialsError) as error:
        yield Finding("api server", "bad", str(error), "set KUBECONFIG to a cluster that answers")
        return
    yield Finding("api server", "ok", f"Kubernetes {version} at {client.credentials.server}")
    checks: Sequence[Callable[[Session, Client], Awaitable[Iterable[Finding]]]] = (
        _kinds,
        _policies,
        _processes,
        _leader,
        _gateway,
        _exporter,
        _accelerators,
        _permissions,
        _endpoints,
    )
    for check in checks:
        try:
            for finding in await check(session, client):
                yield finding
        except Forbidden as error:
            yield Finding(check.__name__.strip("_"), "note", "you may not look", str(error))
        except (KubeError, CliError) as error:
            yield Finding(check.__name__.strip("_"), "bad", str(error), "see the message, and try again")


async def _kinds(session: Session, client: Client) -> list[Finding]:
    try:
        answer = await client.request("GET", f"/apis/{INFERENCE_ENDPOINTS.api_version}")
    except NotFound:
        answer = {}
    served = {resource["name"] for resource in answer.get("resources", [])}
    missing = {PLURAL_ENDPOINTS, PLURAL_API_KEYS} - served
    if missing:
        advice = "install the chart, with crds.enabled: true"
        return [Finding("kinds", "bad", f"not served: {', '.join(sorted(missing))}", advice)]
    return [Finding("kinds", "ok", f"{PLURAL_ENDPOINTS} and {PLURAL_API_KEYS} are served")]


async def _policies(session: Session, client: Client) -> list[Finding]:
    bound = {item["metadata"]["name"] for item in (await client.list(POLICIES)).items}
    findings = []
    for name, without in (
        ("zerotide-endpoints", "only the operator checks what endpoints ask for: set policy.enabled in the chart"),
        ("zerotide-exporter", "the exporter may change pods in any way: install the chart again"),
        ("zerotide-operator", "the operator may tell anything of pods: install the chart again"),
    ):
        there = name in bound
        findings.append(
            Finding(
                "policy",
                "ok" if there else "note",
                f"{name} {'holds' if there else 'is missing'}",
                "" if there else without,
            )
        )
    return findings


async def _processes(session: Session, client: Client) -> list[Finding]:
    findings = []
    for name in (MANAGER_OPERATOR, MANAGER_ACTIVATOR, MANAGER_EXPORTER):
        process = name.removeprefix("zerotide-")
        try:
            deployment = await client.get(DEPLOYMENTS, name, session.system_namespace)
        except NotFound:
            advice = "install the chart, or name its namespace with --system-namespace"
            findings.append(Finding(process, "bad", f"not in namespace {session.system_namespace}", advice))
            continue
        wanted, ready = deployment["spec"].get("replicas", 1), deployment.get("status", {}).get("readyReplicas", 0)
        advice = f"see `kubectl -n {session.system_namespace} describe pods -l app.kubernetes.io/component={process}`"
        level: Level = "ok" if ready >= wanted else "note" if ready else "bad"
        findings.append(Finding(process, level, f"{ready} of {wanted} ready", "" if level == "ok" else advice))
    return findings


async def _leader(session: Session, client: Client) -> list[Finding]:
    try:
        spec = (await client.get(LEASES, MANAGER_OPERATOR, session.system_namespace)).get("spec") or {}
    except NotFound:
        return [Finding("leader", "bad", "no operator ever led", "see the operator's log")]
    return [leader(spec, session.clock.now_us())]


def leader(spec: Object, now_us: int) -> Finding:
    """Judge the operators' Lease."""
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        return Finding("leader", "note", "no operator leads right now", "one takes over within 15 s; look again")
    age = now_us - parse_time(renewed)
    if age > 2 * int(spec.get("leaseDurationSeconds") or 15) * SECOND:
        return Finding(
            "leader", "bad", f"{holder} last renewed {format_age(renewed, now_us)} ago", "see the operator's log"
        )
    return Finding("leader", "ok", f"{holder} leads")


async def _gateway(session: Session, client: Client) -> list[Finding]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with gateway.reach(session) as address, aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
        try:
            async with http.get(f"{address}/v1/models") as response:
                await response.read()
                status, error = response.status, response.headers.get("X-Zerotide-Error", "")
        except (aiohttp.ClientError, TimeoutError) as problem:
            advice = f"is {gateway.VARIABLE} right? Unset, a port forward is used"
            return [Finding("gateway", "bad", f"{address} does not answer: {problem}", advice)]
    found = f"answers {status}{f' {error}' if error else ''} at {address}"
    if status < 500:
        return [Finding("gateway", "ok", found)]
    return [Finding("gateway", "bad", found, "see the activators' logs")]


async def _exporter(session: Session, client: Client) -> list[Finding]:
    path = SERVICES.path(session.system_namespace, f"{SERVICE_EXPORTER}:http", "proxy/readyz")
    async with client.stream("GET", path, timeout=aiohttp.ClientTimeout(total=10)) as response:
        return [Finding("ledger", "ok", f"the exporter is ready ({response.status})")]


async def _accelerators(session: Session, client: Client) -> list[Finding]:
    nodes = (await client.list(NODES)).items
    gpus = [int((node["status"].get("allocatable") or {}).get(RESOURCE_GPU, 0)) for node in nodes]
    if sum(gpus):
        return [
            Finding("accelerators", "ok", f"{sum(gpus)} {RESOURCE_GPU} on {sum(map(bool, gpus))} of {len(nodes)} nodes")
        ]
    advice = "endpoints with spec.accelerator will wait for a node that has some; CPU endpoints are not concerned"
    return [Finding("accelerators", "note", f"no node offers {RESOURCE_GPU}", advice)]


async def _permissions(session: Session, client: Client) -> list[Finding]:
    namespace = await session.namespace()
    wanted = [("list", INFERENCE_ENDPOINTS), ("patch", INFERENCE_ENDPOINTS), ("get", PODS)]
    denied = [
        f"{verb} {resource.plural}" for verb, resource in wanted if not await _may(client, verb, resource, namespace)
    ]
    if not denied:
        return [Finding("permissions", "ok", f"you may read and change endpoints in {namespace}")]
    advice = "ask for the ClusterRole `edit` in the namespace"
    return [Finding("permissions", "note", f"in {namespace} you may not {', '.join(denied)}", advice)]


async def _may(client: Client, verb: str, resource: Resource, namespace: str) -> bool:
    attributes = {"verb": verb, "group": resource.group, "resource": resource.plural, "namespace": namespace}
    kind = SELF_SUBJECT_ACCESS_REVIEWS
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": {"resourceAttributes": attributes}}
    return bool(((await client.create(kind, body)).get("status") or {}).get("allowed"))


async def _endpoints(session: Session, client: Client) -> list[Finding]:
    items = (await client.list(INFERENCE_ENDPOINTS, await session.scope())).items
    findings = [finding for item in items if (finding := endpoint(item)) is not None]
    return findings or [Finding("endpoints", "ok", f"{len(items)} in {await session.where()}, none in trouble")]


def endpoint(item: Object) -> Finding | None:
    """Judge one endpoint; None when nothing is wrong with it."""
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    ready = Status.read(item.get("status")).condition("Ready")
    if ready is None:
        return Finding(
            f"{namespace}/{name}", "note", "the operator has not looked at it yet", "is the operator running?"
        )
    if ready.status == "True":
        return None
    advice = f"see `zerotide get {name} -n {namespace}` and `zerotide logs {name} -n {namespace}`"
    return Finding(f"{namespace}/{name}", "bad", f"{ready.reason}: {ready.message}", advice)
