"""What an endpoint's status says that it cost is what the bill says, and telling it is seldom a write."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until
from zerotide.billing.reports import CostReport, EndpointCost, PodSegments, SegmentReport
from zerotide.cli.main import main

GPU = {"className": "nvidia-h100-80gb", "count": 1}
PROXY = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy/api/v1"
QUIET = 15
"""Seconds in which the operator has asked the exporter at least once."""


def token(system: System) -> str:
    """Return a token that may read every bill."""
    return system.kubectl("create", "token", "zerotide-reader", "-n", "zerotide-system").strip()


def bill(system: System, namespace: str) -> EndpointCost:
    """Return the bill of a namespace's only endpoint."""
    report = CostReport.model_validate(system.report(f"{PROXY}/cost?namespace={namespace}", token(system)))
    return report.endpoints[0]


def replicas(system: System, namespace: str) -> tuple[PodSegments, ...]:
    """Return what the ledger knows of a namespace's pods."""
    return SegmentReport.model_validate(system.report(f"{PROXY}/segments?namespace={namespace}", token(system))).pods


def status_agrees(system: System, namespace: str, name: str) -> Json | None:
    """Return the status's cost once it says what the bill of all that was says, None before."""
    cost: Json | None = system.status(namespace, name).get("cost")
    billed = bill(system, namespace)
    told = [cost.get("monthToDate"), cost.get("lastColdStart"), cost.get("perMillionTokens")] if cost else []
    return cost if told == [billed.total, *(wake.amount for wake in billed.wakes), billed.per_million_tokens] else None


async def test_a_status_tells_what_the_bill_says_and_what_failed_starts_used_up(system: System) -> None:
    """Both at once, since each waits for time to be counted."""
    cost, used_up = await asyncio.gather(paid(system), burnt(system))
    assert 0 < float(cost["lastColdStart"]) < float(cost["monthToDate"])
    assert 0 < float(cost["dayToDate"]) <= float(cost["monthToDate"]) and cost["day"].startswith(cost["month"])
    assert used_up["acceleratorSeconds"] >= 1


def test_the_ledger_s_interface_describes_itself(system: System) -> None:
    """With nothing but kubectl, as docs/billing.md shows it."""
    told = json.loads(system.kubectl("get", "--raw", f"{PROXY.removesuffix('/api/v1')}/openapi.json"))
    assert told["openapi"].startswith("3.1") and "/api/v1/cost" in told["paths"]


async def paid(system: System) -> Json:
    """Have an endpoint serve once and sleep: its status says what the bill says, and then nobody writes."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    # Stamps have whole seconds: a quicker start might cost nothing.
    system.endpoint(namespace, "paid", trivial(env={"DELAY_MS": "2000"}, accelerator=GPU))
    answer = await traffic.once(system.url(namespace, "paid", "/v1/chat/completions"), key, chat(), timeout=60)
    assert answer.status == 200, answer

    def asleep_and_told() -> Json | None:
        asleep = system.status(namespace, "paid").get("state") == "Asleep" and not system.pods(namespace, "paid")
        return status_agrees(system, namespace, "paid") if asleep else None

    cost = await asyncio.to_thread(wait_until, "the status says what the bill says", asleep_and_told, 120, 1.0)
    assert cost["monthToDate"] in system.kubectl("get", "iep", "paid", "-n", namespace)
    before = system.get("iep", "paid", "-n", namespace)["metadata"]["resourceVersion"]
    await asyncio.sleep(QUIET)
    assert system.get("iep", "paid", "-n", namespace)["metadata"]["resourceVersion"] == before, "who sleeps is at rest"
    return cost


async def burnt(system: System) -> Json:
    """Have a start fail: the accelerator-seconds of its replica, which never became ready, are told with the reason."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "burnt", trivial(env={"EXIT_CODE": "3"}, accelerator=GPU))
    answer = await traffic.once(system.url(namespace, "burnt", "/v1/chat/completions"), key, chat(), timeout=150)
    assert (answer.status, answer.code) == (500, "crash_looping"), answer

    def told() -> Json | None:
        cost: Json | None = (system.status(namespace, "burnt").get("cost") or {}).get("failedStarts")
        held = sum(pod.allocated_to_us - pod.allocated_from_us for pod in replicas(system, namespace) if pod.ended)
        return cost if cost and cost["acceleratorSeconds"] == held // 1_000_000 else None

    cost = await asyncio.to_thread(wait_until, "what the given-up start used up is told", told, 120, 1.0)
    status = system.status(namespace, "burnt")
    assert status["failedStarts"]["reason"] == "CrashLooping", status
    return cost


def timed(system: System, namespace: str, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Return what `zerotide bill time` says of a namespace's accelerators, in device-seconds by phase."""
    os.environ["KUBECONFIG"] = str(system.kubeconfig)
    capsys.readouterr()
    assert main(["bill", "time", "-n", namespace, "--since", "24h", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    return {row["phase"]: float(row["seconds"]) for row in rows if row["meter"] == "AcceleratorTime"}


async def test_a_part_of_a_device_is_billed_as_that_part(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """By the whole one's price: each second of the replica is a quarter of a second of a device."""
    namespace, name = system.namespace(), "quarter-of-a-test"
    spec = {"sharing": "TimeSlice", "partOf": {"className": GPU["className"], "denominator": 4}}
    metadata = {"name": name}
    system.apply(
        {"apiVersion": "zerotide.dev/v1alpha1", "kind": "AcceleratorClass", "metadata": metadata, "spec": spec}
    )
    try:
        key = system.key(namespace, "k")
        accelerator = {"className": name, "count": 1}
        system.endpoint(namespace, "part", trivial(env={"DELAY_MS": "2000"}, accelerator=accelerator))
        answer = await traffic.once(system.url(namespace, "part", "/v1/chat/completions"), key, chat(), timeout=60)
        assert answer.status == 200, answer

        def ended() -> EndpointCost | None:
            pods = replicas(system, namespace)
            return bill(system, namespace) if pods and all(pod.ended for pod in pods) else None

        cost = await asyncio.to_thread(wait_until, "the replica's time is over", ended, 120, 1.0)
    finally:
        system.kubectl("delete", "acceleratorclass", name)
    assert cost.accelerator == GPU["className"], cost
    for phase in cost.phases:
        quarter = phase.replica_us / 4e6
        assert abs(float(phase.accelerator_seconds) - quarter) <= 0.001, phase
    assert sum(phase.replica_us for phase in cost.phases) >= 5_000_000 and float(cost.total) > 0
    found = await asyncio.to_thread(timed, system, namespace, capsys)
    billed = {phase.phase: float(phase.accelerator_seconds) for phase in cost.phases}
    assert found.keys() == {phase for phase, seconds in billed.items() if seconds}
    assert all(abs(seconds - billed[phase]) <= 0.001 for phase, seconds in found.items()), (found, billed)


def test_an_archive_is_kept_and_agrees_with_the_ledger(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the days that are over since the installation, which are none as a rule: its folder is there and is read."""
    os.environ["KUBECONFIG"] = str(system.kubeconfig)
    capsys.readouterr()
    assert main(["bill", "archive", "--since", "96h", "--check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["enabled"] and report["checks"], report
    assert all(check["differences"] == [] for check in report["checks"])
