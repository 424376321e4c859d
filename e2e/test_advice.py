"""`zerotide plan advise`, `forecast` and `compare` ask a live exporter; too little is said, a patch is one that the API
takes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until
from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Outcome, Settlement
from zerotide.cli.main import main
from zerotide.kube import load_credentials

INTAKE = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy/internal/usage"
DAY = 86_400


def history(namespace: str, pod: Json, now: float) -> bytes:
    """Return usage records of nine days: bursts of five requests with 20 s between them, three hours apart."""
    dice, lines = random.Random(5), []
    for burst in range(9 * DAY // 10_800):
        for number in range(5):
            came = int((now - 9 * DAY + burst * 10_800 + number * 20 + dice.random()) * SECOND)
            intent = Intent(
                request_id=f"{namespace}-{burst}-{number}",
                attempt=1,
                namespace=namespace,
                endpoint="a",
                endpoint_uid="",
                consumer=f"{namespace}/team-a",
                pod_uid=pod["metadata"]["uid"],
                activator="recorded",
                model="a",
                stream=False,
                cold=False,
                accepted_us=came,
                forwarded_us=came,
                request_bytes=1,
            )
            settlement = Settlement(
                request_id=intent.request_id,
                attempt=1,
                ended_us=came + SECOND,
                response_bytes=1,
                outcome=Outcome.COMPLETED,
                status=200,
            )
            lines += [intent.encode(), settlement.encode()]
    return b"".join(lines)


def deliver(system: System, records: bytes) -> None:
    """Hand usage to the exporter as an activator does, through the API server's proxy."""
    account = ["zerotide-activator", "-n", "zerotide-system", "--audience", "zerotide-exporter"]
    token = system.kubectl("create", "token", *account).strip()
    credentials = asyncio.run(load_credentials())
    headers = {"X-Zerotide-Token": token, "Content-Type": "application/x-ndjson"}
    headers |= {"Authorization": f"Bearer {credentials.token()}"} if credentials.token else {}
    request = urllib.request.Request(credentials.server + INTAKE, records, headers)
    with urllib.request.urlopen(request, context=credentials.tls, timeout=60) as answer:
        assert answer.status == 204, answer.read()


def advise(namespace: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Run the command; return what it printed for people, and the patch."""
    capsys.readouterr()
    assert main(["plan", "advise", "a", "-n", namespace, "--gpu-second", "0.0014"]) == 0
    patch, said = capsys.readouterr()
    return said, patch


def test_advice_of_a_live_exporter(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After two requests it says what is missing; after nine days of bursts, in numbers, that it sleeps too late."""
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(system.kubeconfig))
    namespace = system.namespace()
    system.endpoint(namespace, "a", trivial(idle="30m"))
    system.wait_state(namespace, "a", "Asleep")
    key, url = system.key(namespace, "tester"), system.url(namespace, "a", "/v1/chat/completions")
    for _ in range(2):
        assert asyncio.run(traffic.once(url, key, chat())).status == 200
    (pod,) = system.pods(namespace, "a")

    def told_of_both() -> tuple[str, str] | None:
        """Return the advice once the exporter has the pod and both requests, each of which comes to it in its time."""
        found = advise(namespace, capsys)
        return found if found[0].startswith("2 requests ") else None

    said, patch = wait_until("both requests are in the ledger", told_of_both)
    assert "too little for advice: it takes 20 silences and a day" in said and patch == ""
    deliver(system, history(namespace, pod, time.time()))
    said, patch = advise(namespace, capsys)
    first = said.splitlines()[0]
    assert first.startswith("Take ") and "% less), with " in first and "cold starts instead of" in first
    assert yaml.safe_load(patch)["spec"]["scaling"]["idle"]
    assert main(["plan", "forecast", "a", "-n", namespace]) == 0
    table, said = capsys.readouterr()
    assert table.startswith("WHEN") and "2 of 2" in table.splitlines()[1], table
    assert " in the coming week: " in said and "(scaling.prewarm.mode is Disabled)" in said
    assert main(["plan", "compare", "a", "-n", namespace, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert 360 <= compared["workload"]["requests"] <= 362 and compared["replicaSecond"] > 0
    ways = {way["name"]: way for way in compared["ways"]}
    assert ways["always on"]["month"] > ways["sleeps after 30m"]["month"] > ways["sleeps after 1m"]["month"]
    (tmp_path / "patch.yaml").write_text(patch)
    arguments = ["--type", "merge", "--patch-file", str(tmp_path / "patch.yaml"), "--dry-run=server"]
    assert "patched" in system.kubectl("patch", "iep", "a", "-n", namespace, *arguments)
