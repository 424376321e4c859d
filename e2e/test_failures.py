"""When a model cannot start, the client and the status say why, within seconds, and a mended spec heals."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from e2e import traffic
from e2e.harness import SMOLLM2, System, chat, smollm2, trivial, wait_until
from zerotide.api.scalars import parse_time

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


@pytest.mark.parametrize("name", list(FAILURES))
async def test_a_hopeless_start_is_explained_and_heals(system: System, name: str) -> None:
    """The waiting client gets the reason in its protocol's shape, the condition has it, a good spec serves."""
    spec, reason, code = FAILURES[name]
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, name, spec)
    url = system.url(namespace, name, "/v1/chat/completions")
    answer = await traffic.once(url, key, chat(), timeout=150)
    known = known_since(system, namespace, name)
    assert (answer.status, answer.code) == (500, code), answer
    error = json.loads(answer.body)["error"]
    assert error["code"] == code and len(error["message"]) > 20
    assert answer.headers["x-should-retry"] == "false" and "retry-after" not in answer.headers
    ready = system.condition(namespace, name, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason), ready
    assert system.status(namespace, name)["state"] == "Failed"
    events = system.get("events", "-n", namespace, "--field-selector", f"involvedObject.name={name},reason={reason}")
    assert events["items"], "an Event names the reason too"
    if known is not None:
        assert time.time() - answer_age(answer) - known <= 7.0, (
            "within 5 s, and 2 s for Kubernetes' whole-second stamps"
        )

    again = await traffic.once(url, key, chat(), timeout=30)
    assert again.status in (500, 503) and again.seconds < 2, "a known failure answers at once"
    system.endpoint(namespace, name, trivial())
    healed = await traffic.once(url, key, chat(), timeout=60)
    for _ in range(20):
        if healed.status == 200:
            break
        await asyncio.sleep(0.5)
        healed = await traffic.once(url, key, chat(), timeout=60)
    assert healed.status == 200, healed


def answer_age(answer: traffic.Answer) -> float:
    """Return how long ago the answer came: it is looked at right away."""
    return 0.0 if answer.seconds >= 0 else answer.seconds


def known_since(system: System, namespace: str, name: str) -> float | None:
    """Return when the condition flipped, as Unix seconds."""
    ready = system.condition(namespace, name, "Ready")
    stamp = ready.get("lastTransitionTime")
    return parse_time(stamp) / 1e6 if stamp else None


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
