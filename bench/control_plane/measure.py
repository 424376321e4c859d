"""The steps of the control plane's benchmark, one after the other, in the cluster's network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.control_plane import fleet, following, nodes, writes
from bench.control_plane.meter import Meter, between
from bench.control_plane.table import Outcome
from bench.hold.waiting import until_quiet
from bench.local import ROOT
from bench.wire.processes import Running, running
from bench.wire.programs import compiled, say
from bench.wire.world import MANAGER, MOST, define, namespace
from e2e.cluster.layout import NODE_ADDRESS
from zerotide.api.names import (
    COMPONENT_ACTIVATOR,
    LABEL_COMPONENT,
    LABEL_NAME,
    RELEASE,
    SERVICE_ACCOUNT_OPERATOR,
    SYSTEM_NAMESPACE,
)
from zerotide.kube import Client, load_credentials
from zerotide.kube.resources import PODS, SERVICE_ACCOUNTS
from zerotide.reconcile.config import ServiceType

BACKEND, GATEWAY, ACTIVATOR_ADMIN, OPERATOR_ADMIN = 8000, 18080, 19190, 19290
BURST, BURSTS = 20, 5
"""Endpoints that are woken together, and how often some are."""
ALONE = 20
"""Endpoints that are woken one after the other, each once the one before has long been answered."""
PATIENCE = 1_800.0
"""Seconds that a step may take."""


@dataclass(frozen=True)
class Plan:
    """How many endpoints, how many of them are called at once, seconds without anything, and their Services."""

    endpoints: int
    wakes: int
    idle: float
    service_type: ServiceType = ServiceType.ENDPOINT_SLICE


async def measure(stack: contextlib.ExitStack, folder: Path, plan: Plan, outcome: Outcome) -> None:
    """Do all steps, and note what each came to. Raises TimeoutError, NotServing, RuntimeError."""
    async with Client(await load_credentials()) as client:
        await _prepare(client)
        own = [nodes.start(stack, folder, _cores()), *_data_plane(stack, folder)]
        await nodes.have(client, -(-(plan.wakes + ALONE + BURSTS * BURST) // nodes.GPUS))
        operator = _operator(stack, folder, plan)
        await _leading()
        meter = Meter([*own, operator])
        endpoints = fleet.names(plan.endpoints)
        await _until_ready(client, endpoints, meter, outcome)
        outcome.note("all ready", operator)
        await _idle(client, plan.idle, operator, outcome)
        outcome.note("after the quiet minute", operator)
        operator.end()
        operator = await _again(stack, folder, plan, outcome)
        outcome.note("started again", operator)
        asleep = endpoints[plan.wakes :]
        if len(asleep) >= ALONE + BURSTS * BURST:
            await _alone(asleep[:ALONE], operator, outcome)
            await _bursts(client, asleep[ALONE : ALONE + BURSTS * BURST], operator, outcome)
        await _wake(client, endpoints[: plan.wakes], Meter([*own, operator]), outcome)
        outcome.note("with those that woke", operator)


async def _until_ready(client: Client, endpoints: list[tuple[str, str]], meter: Meter, outcome: Outcome) -> None:
    async with following.endpoints(client) as seen:
        before, written, began = meter.look(), await writes.look(client), time.monotonic()
        await fleet.make(client, endpoints)
        outcome.made_s = time.monotonic() - began
        say(f"  {len(endpoints)} endpoints made after {outcome.made_s:.1f} s")
        outcome.ready_s = await seen.until("asleep", len(endpoints), PATIENCE) - began
        say(f"  all ready after {outcome.ready_s:.1f} s")
    # What follows from the last of them is part of what each costs.
    await asyncio.sleep(3.0)
    outcome.cpu = between(before, meter.look())
    outcome.writes = await writes.look(client) - written
    outcome.rounds = await _rounds()


async def _idle(client: Client, seconds: float, operator: Running, outcome: Outcome) -> None:
    before, told = await writes.settled(client), await writes.told(client)
    cpu, began = operator.cpu_us(), time.monotonic()
    await asyncio.sleep(seconds)
    outcome.idle_cpu_s = (operator.cpu_us() - cpu) / 1e6
    outcome.idle_writes = await writes.look(client) - before
    # Others go on telling of nodes for minutes where the machine is busy.
    outcome.idle_writes["events"] = await writes.told(client) - told
    outcome.idle_s = time.monotonic() - began
    say(f"  idle for {outcome.idle_s:.0f} s: {sum(outcome.idle_writes.values())} writes")


async def _again(stack: contextlib.ExitStack, folder: Path, plan: Plan, outcome: Outcome) -> Running:
    """Start the operator again and wait until it has nothing left to do."""
    began = time.monotonic()
    operator = _operator(stack, folder, plan)
    await _leading()
    await until_quiet(operator.cpu_us, timeout=300, window=1.0)
    outcome.again_s, outcome.again_cpu_s = time.monotonic() - began, operator.cpu_us() / 1e6
    outcome.again_rounds = await _rounds()
    say(f"  started again: {outcome.again_s:.1f} s")
    return operator


async def _alone(endpoints: list[tuple[str, str]], operator: Running, outcome: Outcome) -> None:
    """Wake endpoints one after the other, so that nothing but the way of a wake is measured."""
    outcome.alone["answer"] = []
    for one in endpoints:
        # Whatever follows from the wake before is over, its status included.
        await asyncio.sleep(2.0)
        outcome.alone["answer"] += await fleet.call("127.0.0.1", GATEWAY, [one], PATIENCE)
    await asyncio.sleep(2.0)
    outcome.alone |= _decided(operator, endpoints)
    say(f"  {len(endpoints)} woken one after the other")


async def _bursts(client: Client, endpoints: list[tuple[str, str]], operator: Running, outcome: Outcome) -> None:
    """Wake endpoints together, some after the others."""
    outcome.burst = {"answer": [], "pod made": []}
    async with following.pods(client) as seen:
        for number in range(BURSTS):
            together, began = endpoints[number * BURST : (number + 1) * BURST], time.monotonic()
            outcome.burst["answer"] += await fleet.call("127.0.0.1", GATEWAY, together, PATIENCE)
            await seen.until("made", ALONE + (number + 1) * BURST, PATIENCE)
            outcome.burst["pod made"] += [at - began for key, at in seen.marks["made"].items() if key in together]
            await asyncio.sleep(6.0)
    outcome.burst |= _decided(operator, endpoints)
    say(f"  {BURSTS} times {BURST} woken in one burst")


def _decided(operator: Running, endpoints: list[tuple[str, str]]) -> dict[str, list[float]]:
    """Return the seconds from the news of held requests until the writes of replicas went out, and were answered.

    As the operator itself says of each endpoint.
    """
    named = {f"{space}/{name}" for space, name in endpoints}
    lines = (json.loads(line) for line in operator.log.read_text().splitlines() if '"decided"' in line)
    told = [line for line in lines if not line["from"] and "planMs" in line and line["key"] in named]
    sent = [line["planMs"] / 1000 for line in told]
    return {
        "decision sent": sent,
        "answered": [it + line["writeMs"] / 1000 for it, line in zip(sent, told, strict=True)],
    }


async def _wake(client: Client, endpoints: list[tuple[str, str]], meter: Meter, outcome: Outcome) -> None:
    async with following.pods(client) as seen:
        reasons, earlier = await writes.reasons(client), len(seen.marks.get("ready", ()))
        before, written, began = meter.look(), await writes.look(client), time.monotonic()
        outcome.wakes["answer"] = await fleet.call("127.0.0.1", GATEWAY, endpoints, PATIENCE)
        outcome.wake_cpu, outcome.wake_writes = between(before, meter.look()), await writes.look(client) - written
        outcome.wake_reasons = await writes.reasons(client) - reasons
        await seen.until("ready", earlier + len(endpoints), PATIENCE)
        for mark in ("made", "ready"):
            # Those of the bursts before are there all the time.
            outcome.wakes[mark] = [at - began for key, at in seen.marks[mark].items() if key in endpoints]
    say(f"  {len(endpoints)} woken")


async def _prepare(client: Client) -> None:
    await define(client, sorted((ROOT / "crds").glob("*.yaml")))
    await namespace(client, SYSTEM_NAMESPACE)
    account = {"metadata": {"namespace": SYSTEM_NAMESPACE, "name": SERVICE_ACCOUNT_OPERATOR}}
    await client.apply(SERVICE_ACCOUNTS, account, MANAGER)
    # The operator finds the activator by its pod, of which there is nothing but this object.
    labels = {LABEL_NAME: RELEASE, LABEL_COMPONENT: COMPONENT_ACTIVATOR}
    metadata = {"namespace": SYSTEM_NAMESPACE, "name": "activator-0", "labels": labels}
    spec = {"containers": [{"name": "activator", "image": fleet.IMAGE}], "schedulerName": "nobody"}
    await client.apply(PODS, {"metadata": metadata, "spec": spec}, MANAGER)
    ready = {"type": "Ready", "status": "True"}
    address = {"podIP": NODE_ADDRESS, "podIPs": [{"ip": NODE_ADDRESS}]}
    status = {"phase": "Running", **address, "conditions": [ready]}
    await client.patch(PODS, "activator-0", SYSTEM_NAMESPACE, {"status": status}, subresource="status")
    nodes.lead_home()


def _data_plane(stack: contextlib.ExitStack, folder: Path) -> list[Running]:
    """Run the backend that answers for every pod, and the activator before it."""
    backend = stack.enter_context(
        running("backend", [str(compiled("backend")), "--port", str(BACKEND)], _cores(), folder)
    )
    backend.wait_listening(BACKEND)
    flags = {
        "listen": "0.0.0.0",
        "port": GATEWAY,
        "admin-port": ACTIVATOR_ADMIN,
        "exporter-url": "none",
        "pod-name": "activator-0",
        "pod-namespace": SYSTEM_NAMESPACE,
        "limit-connections": MOST,
        "limit-connections-per-address": 0,
        "hold-total-max-requests": MOST,
        "hold-namespace-max-requests": MOST,
        "hold-consumer-max-requests": MOST,
    }
    command = [sys.executable, "-m", "zerotide.activator", *(f"--{name}={value}" for name, value in flags.items())]
    activator = stack.enter_context(running("activator", command, _cores(), folder, cwd=ROOT))
    activator.wait_listening(GATEWAY, timeout=60)
    return [backend, activator]


def _operator(stack: contextlib.ExitStack, folder: Path, plan: Plan) -> Running:
    flags = {
        "port": OPERATOR_ADMIN,
        "activator-port": ACTIVATOR_ADMIN,
        "namespace": SYSTEM_NAMESPACE,
        "service-type": plan.service_type,
    }
    command = [sys.executable, "-m", "zerotide.controller", *(f"--{name}={value}" for name, value in flags.items())]
    return stack.enter_context(running("operator", command, _cores(), folder, cwd=ROOT))


async def _leading() -> None:
    """Wait until the operator leads. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while "zerotide_leading 1.0" not in await _figures():
            await asyncio.sleep(0.1)


async def _rounds() -> float:
    """Return how many looks the operator had at endpoints."""
    return float(re.findall(r"zerotide_reconcile_duration_seconds_count (\S+)", await _figures())[0])


async def _figures() -> str:
    """Return the operator's metrics; nothing before it listens."""
    try:
        url = f"http://127.0.0.1:{OPERATOR_ADMIN}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()
    except aiohttp.ClientError:
        return ""


def _cores() -> str:
    """Return the cores of this machine: nothing here has one alone."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))
