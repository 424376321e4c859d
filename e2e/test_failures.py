"""When a model cannot start, the client and the status say why, within seconds, and a mended spec heals."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import pytest

from e2e import traffic
from e2e.harness import SMOLLM2, Json, System, chat, smollm2, trivial, wait_until

FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "image": (
        trivial(runtime={"image": "zerotide/trivial:no-such-tag"}),
        "ImagePullFailed",
        "image_pull_failed",
    ),
    "crash": (trivial(env={"EXIT_CODE": "3"}), "CrashLooping", "crash_looping"),
    "never": (
        trivial(resources={"requests": {"cpu": "10m", "memory": "9000Gi"}, "limits": {"memory": "9000Gi"}}),
        "NeverSchedulable",
        "never_schedulable",
    ),
    "oom": (
        trivial(env={"EAT_MB": "400"}, resources={"limits": {"memory": "64Mi"}}),
        "OutOfMemory",
        "out_of_memory",
    ),
    "uri": (
        smollm2(model={"uri": "image:///models/no-such-model"}, runtime={"engine": "zerotide", "image": SMOLLM2}),
        "ModelDownloadFailed",
        "model_download_failed",
    ),
    "secret": (
        smollm2(model={"uri": "image:///models/smollm2", "secretRef": {"name": "absent"}}),
        "CredentialsMissing",
        "credentials_missing",
    ),
}


class Knowledge:
    """Watch an endpoint's pods and note when Kubernetes first knew why they cannot start.

    A pull or a crash counts from its second back-off on; all else from the first sign.
    """

    def __init__(self, system: System, namespace: str, name: str) -> None:
        self._system, self._namespace, self._name = system, namespace, name
        self._waiting: dict[str, str] = {}
        self._backoffs: Counter[str] = Counter()
        self.since: float | None = None

    async def follow(self) -> None:
        """Look five times a second until it is known."""
        while self.since is None:
            pods = await asyncio.to_thread(self._system.pods, self._namespace, self._name)
            known = [self._knows(pod) for pod in pods]  # each must be looked at, to count its back-offs
            if any(known):
                self.since = time.monotonic()
            await asyncio.sleep(0.2)

    def _knows(self, pod: Json) -> bool:
        uid, status = pod["metadata"]["uid"], pod.get("status", {})
        for container in status.get("containerStatuses") or []:
            waiting = (container["state"].get("waiting") or {}).get("reason", "")
            if waiting == "CreateContainerConfigError":
                return True
            if waiting != self._waiting.get(uid) and waiting.endswith("BackOff"):
                self._backoffs[uid] += 1
            self._waiting[uid] = waiting
        conditions = status.get("conditions") or []
        unschedulable = any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)
        return unschedulable or self._backoffs[uid] >= 2


@pytest.mark.parametrize("name", list(FAILURES))
async def test_a_hopeless_start_is_explained_and_heals(system: System, name: str) -> None:
    """The waiting client gets the reason in its protocol's shape, the condition has it, a good spec serves."""
    spec, reason, code = FAILURES[name]
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, name, spec)
    url = system.url(namespace, name, "/v1/chat/completions")
    knowledge = Knowledge(system, namespace, name)
    watching = asyncio.create_task(knowledge.follow())
    answer = await traffic.once(url, key, chat(), timeout=150)
    answered = time.monotonic()
    watching.cancel()
    assert (answer.status, answer.code) == (500, code), answer
    assert knowledge.since is None or answered - knowledge.since <= 5.0, answered - knowledge.since
    error = json.loads(answer.body)["error"]
    assert error["code"] == code and len(error["message"]) > 20
    assert answer.headers["x-should-retry"] == "false" and "retry-after" not in answer.headers
    ready = system.condition(namespace, name, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason), ready
    assert system.status(namespace, name)["state"] == "Failed"

    def told() -> list[Json]:
        of_this = f"involvedObject.name={name},reason={reason}"
        events: list[Json] = system.get("events", "-n", namespace, "--field-selector", of_this)["items"]
        return events

    await asyncio.to_thread(wait_until, "an Event names the reason too", told, 10)
    again = await traffic.once(url, key, chat(), timeout=30)
    assert again.status in (500, 503) and again.seconds < 2, "a known failure answers at once"
    await heals(system, namespace, name, key)


async def heals(system: System, namespace: str, name: str, key: str) -> None:
    """Mend the spec; requests are served again as soon as the operator has seen it."""
    system.endpoint(namespace, name, trivial())

    def accepting() -> bool:
        return system.condition(namespace, name, "Accepting").get("status") == "True"

    await asyncio.to_thread(wait_until, "the mended endpoint accepts", accepting, 15)
    answer = await traffic.once(system.url(namespace, name, "/v1/chat/completions"), key, chat(), timeout=60)
    assert answer.status == 200, answer


async def test_taken_gpus_are_waited_for(system: System) -> None:
    """GPUs that others hold are not hopeless: the request is held and served when one is freed."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    node = system.get("nodes")["items"][0]
    total = int(node["status"]["allocatable"]["nvidia.com/gpu"])
    taker = pod_with_gpus(namespace, "taker", total)
    system.apply(taker)
    wait_until("the taker runs", lambda: system.get("pod", "taker", "-n", namespace)["status"]["phase"] == "Running")
    system.endpoint(namespace, "waiting", trivial(accelerator={"count": 1}))
    url = system.url(namespace, "waiting", "/v1/chat/completions")
    request = asyncio.create_task(traffic.once(url, key, chat(), timeout=90))
    status = await asyncio.to_thread(system.wait_state, namespace, "waiting", "WaitingForCapacity")
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Waking")
    assert not request.done()
    system.kubectl("delete", "pod", "taker", "-n", namespace, "--grace-period=1")
    answer = await request
    assert answer.status == 200, answer


def pod_with_gpus(namespace: str, name: str, count: int) -> dict[str, Any]:
    """Return a pod of the test's own that holds GPUs."""
    container = {
        "name": "c",
        "image": "zerotide/trivial:dev",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"nvidia.com/gpu": str(count)}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }


def test_a_foreign_service_is_untouched(system: System) -> None:
    """An endpoint named like somebody's Service says so and changes nothing of it."""
    namespace = system.namespace()
    foreign = {"selector": {"app": "mine"}, "ports": [{"port": 1234, "name": "x"}]}
    metadata = {"namespace": namespace, "name": "taken"}
    system.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": foreign})
    before = system.get("service", "taken", "-n", namespace)
    system.endpoint(namespace, "taken", trivial())
    system.wait_state(namespace, "taken", "Failed")
    ready = system.condition(namespace, "taken", "Ready")
    assert ready["reason"] == "NameConflict" and "Service" in ready["message"], ready
    assert system.get("service", "taken", "-n", namespace) == before
