"""Weights that are not in the image: a model on a volume claim, and one in a folder of the node, answer from zero."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e import traffic
from e2e.harness import SMOLLM2, Json, System, chat, smollm2, wait_until
from e2e.install import NODE_FOLDER

USER = 65532


def run_pod(system: System, namespace: str, name: str, script: str, volume: Json, user: int) -> None:
    """Run a script with a volume at /volume, in the image that has the model at /models/smollm2, to its end."""
    container = {
        "name": "script",
        "image": SMOLLM2,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-ec", script],
        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": user, "runAsGroup": user, "fsGroup": user},
        "containers": [container],
        "volumes": [{"name": "volume", **volume}],
    }
    metadata = {"name": name, "namespace": namespace}
    system.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def phase() -> str:
        found: str = system.get("pod", name, "-n", namespace)["status"].get("phase", "")
        return found if found in ("Succeeded", "Failed") else ""

    ended = wait_until(f"pod {name} ends", phase, 120)
    assert ended == "Succeeded", system.kubectl("logs", name, "-n", namespace)


@pytest.fixture
def node_folder(system: System) -> Iterator[tuple[str, str]]:
    """Put the model into a folder of the node; return a namespace and the folder, which is removed at the end."""
    namespace = system.namespace()
    parent, _, base = NODE_FOLDER.rpartition("/")
    volume = {"hostPath": {"path": parent, "type": "Directory"}}
    place = f"/volume/{base}/{namespace}"
    run_pod(system, namespace, "fill", f"mkdir -p {place} && cp -r /models/smollm2 {place}/copied", volume, 0)
    yield namespace, f"{NODE_FOLDER}/{namespace}/copied"
    # The folder of all tests goes with the last one.
    clean = f"rm -rf {place}; rmdir /volume/{base} || true"
    run_pod(system, namespace, "clean", clean, volume, 0)


async def answers_from_zero(system: System, namespace: str, uri: str) -> Json:
    """Ask a sleeping endpoint with these weights, check its answer, and return its pod."""
    key = system.key(namespace, "tester")
    system.endpoint(namespace, "model", smollm2(idle="60s", model={"uri": uri}))
    assert system.wait_state(namespace, "model", "Asleep")["replicas"] == 0
    answer = await traffic.once(
        system.url(namespace, "model", "/v1/chat/completions"), key, chat(model="model"), timeout=180
    )
    assert answer.status == 200, answer
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer.headers["x-zerotide-cold-start"] == "true"
    (pod,) = system.pods(namespace, "model")
    return pod


def volumes(pod: Json) -> list[Json]:
    """Return a pod's volumes without their names."""
    return [{key: value for key, value in volume.items() if key != "name"} for volume in pod["spec"]["volumes"]]


async def test_a_model_on_a_claim_answers_from_zero(system: System) -> None:
    """The claim is mounted for reading alone, and no other volume with it."""
    namespace = system.namespace()
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "weights", "namespace": namespace}
    system.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    volume = {"persistentVolumeClaim": {"claimName": "weights"}}
    run_pod(system, namespace, "fill", "cp -r /models/smollm2 /volume/copied", volume, USER)
    pod = await answers_from_zero(system, namespace, "pvc://weights/copied")
    assert volumes(pod) == [{"persistentVolumeClaim": {"claimName": "weights", "readOnly": True}}]


async def test_a_model_in_a_folder_of_the_node_answers_from_zero(system: System, node_folder: tuple[str, str]) -> None:
    """Where policy.nodePaths lists the folder; another one is refused when it is applied."""
    namespace, folder = node_folder
    pod = await answers_from_zero(system, namespace, f"file://{folder}")
    assert [volume["hostPath"]["path"] for volume in volumes(pod)] == [folder]
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    assert mount["readOnly"] is True
    with pytest.raises(AssertionError, match="the node folder of file:///etc"):
        system.endpoint(namespace, "other", smollm2(model={"uri": "file:///etc"}))


HUB = """
import json, shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILES = {path.name: path for path in Path("/models/smollm2").iterdir() if path.is_file()}
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, whole):
        path = self.path.partition("?")[0]
        name = path.partition("/resolve/")[2].partition("/")[2]
        if "/tree/" in path:
            listed = [{"type": "file", "path": n, "size": p.stat().st_size, "oid": "0" * 40} for n, p in FILES.items()]
            self.tell(whole, json.dumps(listed).encode())
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in FILES]
            model = {"id": "org/model", "sha": COMMIT, "siblings": siblings, "private": False}
            self.tell(whole, json.dumps(model).encode())
        elif name in FILES:
            self.head(200, FILES[name].stat().st_size, name)
            if whole:
                with FILES[name].open("rb") as file:
                    shutil.copyfileobj(file, self.wfile, 1 << 20)
        else:
            self.head(404, 0, "none")

    def tell(self, whole, body):
        self.head(200, len(body), "listing")
        if whole:
            self.wfile.write(body)

    def head(self, status, size, tag):
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", json.dumps(tag.encode().hex().ljust(40, "0")))
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()


ThreadingHTTPServer(("0.0.0.0", 8000), Hub).serve_forever()
"""


def start_hub(system: System, namespace: str) -> str:
    """Run a hub that has the model as org/model; return its address once it listens."""
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    container = {"name": "hub", "image": SMOLLM2, "command": ["python3", "-c", HUB], "readinessProbe": probe}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    metadata = {"name": "hub", "namespace": namespace}
    system.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def address() -> str:
        status = system.get("pod", "hub", "-n", namespace)["status"]
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))
        return f"http://{status['podIP']}:8000" if ready else ""

    return wait_until("the hub listens", address, 60)


async def test_a_model_of_the_hub_is_kept_in_a_claim(system: System) -> None:
    """Fetched with the first wake, and read from the claim with the second, when there is no hub any more."""
    namespace = system.namespace()
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}
    metadata = {"name": "kept", "namespace": namespace}
    system.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    key = system.key(namespace, "tester")
    hub = start_hub(system, namespace)
    env = [{"name": "HF_ENDPOINT", "value": hub}, {"name": "HF_HUB_DISABLE_XET", "value": "1"}]
    spec = smollm2(
        idle="5s",
        model={"uri": "hf://org/model@main"},
        runtime={"engine": "zerotide", "image": SMOLLM2, "env": env},
        cache={"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "kept"}},
    )
    system.endpoint(namespace, "model", spec)
    url = system.url(namespace, "model", "/v1/chat/completions")
    for wake in ("from the hub", "from the claim"):
        system.wait_state(namespace, "model", "Asleep", timeout=90)
        answer = await traffic.once(url, key, chat(model="model"), timeout=240)
        assert answer.status == 200, (wake, answer)
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "The capital of France is Paris."
        assert answer.headers["x-zerotide-cold-start"] == "true"
        system.kubectl("delete", "pod", "hub", "-n", namespace, "--ignore-not-found")

    def told() -> Json:
        model: Json = system.status(namespace, "model").get("model") or {}
        return model if "revision" in model else {}

    model = wait_until("the commit is told", told, 20)
    assert model["revision"] == "a" * 40 and model["bytes"] > 100_000_000
