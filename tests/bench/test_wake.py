"""The wake benchmark's own parts: whom it asks for what, what it meters, and what it makes of its figures."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.bench_wake import Step, measure
from bench.knative import manifests
from bench.knative.serving import Revision
from bench.wake.inside import first_byte
from bench.wake.table import FIRST, Measured, Runs, against, empty, quantile, result, table
from bench.wake.target import Target, endpoint, revision
from bench.wire.processes import LOAD_CORE, free_port, running
from bench.wire.programs import compiled
from e2e.harness import System


def measured(seconds: float, **marks: float) -> Measured:
    """Return a start of so many seconds."""
    return Measured(seconds, {"pull": seconds / 2}, {"scaled": 0.008, **marks}, {"activator": 0.004})


def runs_of(**seconds: list[float]) -> dict[str, Runs]:
    """Return runs of these rows."""
    runs = empty()
    for name, values in seconds.items():
        for value in values:
            runs[name].add(measured(value, **{FIRST: value / 4} if "herd" in name else {}))
    return runs


def test_the_result_has_the_agreed_keys() -> None:
    """Medians in milliseconds, of starts and of the last answer of a herd; null where nothing was measured."""
    runs = runs_of(floor=[0.2, 0.3, 0.22], trivial=[0.23], knative=[0.7, 0.75, 0.8], herd=[0.4], knative_herd=[1.0])
    said = json.loads(json.dumps(result(runs)))
    assert said["floor_p50_ms"] == 220 and said["trivial_p50_ms"] == said["trivial_p90_ms"] == 230
    assert said["knative_p50_ms"] == 750 and said["knative_p90_ms"] == 790
    assert said["herd_last_ms"] == 400 and said["knative_herd_last_ms"] == 1000
    assert said["herd_first_ms"] == 100 and said["knative_herd_first_ms"] == 250
    assert said["smollm2_p50_ms"] is None and "smollm2" not in said["medians"]
    assert said["stages"]["floor"]["pull"] == {"p50_ms": 110, "p90_ms": 142}
    assert said["medians"]["trivial"] == {"marks": {"scaled": 8}, "cpu": {"activator": 4}}
    empty_result = result(empty())
    assert empty_result["knative_p50_ms"] is None and empty_result["knative_herd_last_ms"] is None
    assert quantile([3.0], 0.9) == 3.0


def test_the_table_sets_ours_against_knative() -> None:
    """A row for each that was measured, and a share for each pair."""
    runs = runs_of(floor=[0.2], trivial=[0.2], knative=[0.8], herd=[0.45], knative_herd=[1.0])
    text = table(runs)
    assert "trivial / knative: 0.25" in text and "herd, last / knative herd, last: 0.45" in text
    assert "smollm2" not in text
    assert "first answer" in text and "activator" in text
    assert against(runs_of(trivial=[0.2], herd=[0.4])) == []


def test_rows_are_measured_by_turns() -> None:
    """Each round has every row once, as long as it has times left."""
    turns: list[str] = []

    def step(row: str, times: int) -> Step:
        def take() -> Measured:
            turns.append(row)
            return measured(0.1)

        return Step(row, times, take)

    runs = measure([step("floor", 2), step("knative", 1), step("herd", 3)])
    assert turns == ["floor", "knative", "herd", "floor", "herd", "herd"]
    assert [len(runs[row].seconds) for row in ("floor", "knative", "herd", "smollm2")] == [2, 1, 3, 0]


@pytest.mark.parametrize("who", ["ours", "knative"])
async def test_targets_are_asked_with_whole_requests(who: str, tmp_path: Path) -> None:
    """What each is sent is answered by a real backend; as JSON a target goes into the cluster and stays the same."""
    it = endpoint("ns", "m", "the-key")
    if who == "knative":
        it = revision(Revision(System(Path("/none"), "", ""), "ns", "r-00001"))
        assert it.deployment == "r-00001-deployment" and it.selector == "serving.knative.dev/revision=r-00001"
    assert Target(**json.loads(json.dumps(asdict(it)))).request() == it.request()
    port = free_port()
    with running("backend", [str(compiled("backend")), "--port", str(port)], LOAD_CORE, tmp_path) as process:
        process.wait_listening(port)
        await first_byte("127.0.0.1", port, it.request())


async def test_any_answer_but_200_is_no_wake() -> None:
    """A refusal is told in its own words; an early end is one."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop())
        writer.close()

    answers = [b"", b"HTTP/1.1 401 Unauthorized\r\n\r\nno such key"]
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RuntimeError, match="no such key"):
            await first_byte("127.0.0.1", port, b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await first_byte("127.0.0.1", port, b"GET / HTTP/1.1\r\n\r\n")


def test_knative_is_taken_as_published_but_for_images(tmp_path: Path) -> None:
    """Kinds come first and webhooks last; each program's source becomes its image; autoscalers of pods stay away."""
    files = {
        "100-namespace.yaml": "kind: Namespace",
        "200-serviceaccount.yaml": "kind: ServiceAccount",
        "200-roles/a.yaml": "kind: ClusterRole",
        "300-knativecertificate.yaml": "kind: Certificate",
        "300-resources/a.yaml": "kind: CustomResourceDefinition",
        "999-cache.yaml": "kind: Image\nspec: {image: ko://knative.dev/serving/cmd/queue}",
        "configmaps/deployment.yaml": (
            "kind: ConfigMap\nmetadata: {name: config-deployment}\n"
            "data: {kept: 'yes', queue-sidecar-image: ko://knative.dev/serving/cmd/queue}"
        ),
        "deployments/a.yaml": "kind: Deployment\nspec: [{image: ko://knative.dev/serving/cmd/activator}]\n---\n",
        "deployments/a-hpa.yaml": "kind: HorizontalPodAutoscaler\n---\nkind: PodDisruptionBudget",
        "webhooks/a.yaml": "kind: ValidatingWebhookConfiguration",
        "webhooks/placeholder.go": "package webhooks",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    beside = tmp_path / "beside.yaml"
    beside.write_text("kind: CustomResourceDefinition\n---\nkind: ConfigMap\nmetadata: {name: config-network}\n")
    kinds = [each["kind"] for each in manifests.kinds(tmp_path, [beside])]
    assert kinds == ["Namespace", "CustomResourceDefinition", "CustomResourceDefinition"]
    parts = manifests.parts(tmp_path, [beside], "1.2")
    assert "CustomResourceDefinition" not in [each["kind"] for each in parts]
    assert [each["kind"] for each in parts][-1] == "ValidatingWebhookConfiguration"
    assert "HorizontalPodAutoscaler" not in str(parts) and "PodDisruptionBudget" in str(parts)
    assert "ko://" not in str(parts) and "localhost/knative/activator:1.2" in str(parts)
    data = next(each["data"] for each in parts if each.get("data"))
    assert data["queue-sidecar-image"] == "localhost/knative/queue:1.2" and data["kept"] == "yes"


def test_knatives_service_is_like_ours() -> None:
    """One replica at most without a limit; a token is left out only where that is asked for."""
    spec = manifests.service("ns", "m", "trivial:dev", token=True)["spec"]["template"]["spec"]
    assert spec["containerConcurrency"] == 0 and "automountServiceAccountToken" not in spec
    spec = manifests.service("ns", "m", "trivial:dev", token=False)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
