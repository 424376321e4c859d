"""Who may wake what, and the switches that people use by hand."""

from __future__ import annotations

import asyncio
import json
import time

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until


async def test_without_a_good_key_nothing_wakes(system: System) -> None:
    """No key, a wrong one, one of another namespace and a revoked one: 401 or 403, and no wake."""
    namespace, other = system.namespace(), system.namespace()
    system.endpoint(namespace, "closed", trivial())
    system.wait_state(namespace, "closed", "Asleep")
    revoked, foreign = system.key(namespace, "revoked"), system.key(other, "foreign")
    url = system.url(namespace, "closed", "/v1/chat/completions")
    system.kubectl("delete", "apikey", "revoked", "-n", namespace)
    await asyncio.sleep(1)  # the promise under test: revoked within a second
    for key, statuses in (("", {401}), ("zt_nobody_" + "A" * 49, {401}), (revoked, {401}), (foreign, {403, 404})):
        answer = await traffic.once(url, key, chat(), timeout=10)
        assert answer.status in statuses, (key[:12], answer)
    status = system.status(namespace, "closed")
    assert status["state"] == "Asleep" and "wakeRequest" not in status and not system.pods(namespace, "closed")


async def test_a_workload_s_own_token_opens_an_endpoint(system: System) -> None:
    """The cluster as issuer, its keys in a ConfigMap: a ServiceAccount's token for us wakes, others do not."""
    namespace = system.namespace()
    issuer = json.loads(system.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    keys = {"jwks.json": system.kubectl("get", "--raw", "/openid/v1/jwks")}
    metadata = {"namespace": namespace, "name": "cluster-keys"}
    system.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": keys})
    for name, source in (("trusting", "cluster-keys"), ("lost", "no-such-keys")):
        jwt = {"issuer": issuer, "audiences": ["zerotide"], "jwksConfigMap": {"name": source}}
        system.endpoint(namespace, name, trivial(access={"auth": "JWT", "jwt": jwt}))
        system.wait_state(namespace, name, "Asleep")
    url = system.url(namespace, "trusting", "/v1/chat/completions")

    def token(audience: str) -> str:
        return system.kubectl("create", "token", "default", "-n", namespace, f"--audience={audience}").strip()

    good = token("zerotide")
    for text in (token("others"), good[:-8] + "AAAAAAAA", system.key(namespace, "k")):
        refused = await traffic.once(url, text, chat(), timeout=30)
        assert refused.status in (401, 403), refused
    lost = await traffic.once(system.url(namespace, "lost", "/v1/chat/completions"), good, chat(), timeout=30)
    assert (lost.status, lost.code) == (500, "credentials_missing"), lost
    for name in ("trusting", "lost"):
        assert not system.pods(namespace, name) and "wakeRequest" not in system.status(namespace, name)
    answer = await traffic.once(url, good, chat())
    assert answer.status == 200, answer


async def test_two_namespaces_do_not_disturb_each_other(system: System) -> None:
    """The same name twice: each key opens its own, each wakes alone."""
    first, second = system.namespace(), system.namespace()
    keys = {namespace: system.key(namespace, "k") for namespace in (first, second)}
    for namespace in keys:
        system.endpoint(namespace, "same", trivial(idle="30s"))
    answer = await traffic.once(system.url(first, "same", "/v1/chat/completions"), keys[first], chat())
    assert answer.status == 200
    assert system.status(second, "same").get("state") == "Asleep" and not system.pods(second, "same")
    crossed = await traffic.once(system.url(second, "same", "/v1/chat/completions"), keys[first], chat(), timeout=10)
    assert crossed.status in (403, 404)
    assert not system.pods(second, "same")


async def test_deletion_during_a_cold_start(system: System) -> None:
    """The waiters are answered, and nothing is left behind."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "doomed", trivial(env={"DELAY_MS": "60000"}))
    url = system.url(namespace, "doomed", "/v1/chat/completions")
    waiting = [asyncio.create_task(traffic.once(url, key, chat(), timeout=60)) for _ in range(3)]
    await asyncio.to_thread(wait_until, "its pod is there", lambda: system.pods(namespace, "doomed"))
    deleted = time.monotonic()
    system.kubectl("delete", "iep", "doomed", "-n", namespace)
    for answer in await asyncio.gather(*waiting):
        assert (answer.status, answer.code) == (404, "endpoint_not_found"), answer
    kinds = "pods,deployments,replicasets,services,endpointslices,serviceaccounts,poddisruptionbudgets,networkpolicies"

    def left() -> list[str]:
        listed = system.get(kinds, "-n", namespace)["items"]
        names = [f"{item['kind']}/{item['metadata']['name']}" for item in listed]
        return [name for name in names if "/doomed" in name]

    await asyncio.to_thread(wait_until, "nothing is left", lambda: not left(), 5 + deleted - time.monotonic())


async def test_a_suspended_endpoint_never_wakes(system: System) -> None:
    """Callers are told at once; resuming serves."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "off", trivial(suspend=True))
    system.wait_state(namespace, "off", "Suspended")
    url = system.url(namespace, "off", "/v1/chat/completions")
    answer = await traffic.once(url, key, chat(), timeout=10)
    assert (answer.status, answer.code) == (500, "suspended"), answer
    assert not system.pods(namespace, "off")
    system.endpoint(namespace, "off", trivial(suspend=False))
    system.wait_state(namespace, "off", "Asleep")
    assert (await traffic.once(url, key, chat())).status == 200


def test_scale_pins_and_hands_back(system: System) -> None:
    """`kubectl scale` pins two replicas until it is set to 0 again; a real HPA attaches without error."""
    namespace = system.namespace()
    system.endpoint(namespace, "pinned", trivial(idle="5s", scaling={"maxReplicas": 3}))
    system.wait_state(namespace, "pinned", "Asleep")
    system.kubectl("scale", "iep/pinned", "-n", namespace, "--replicas=2")
    wait_until("two are ready", lambda: system.status(namespace, "pinned").get("readyReplicas") == 2, 60)
    scale = json.loads(system.kubectl("get", "iep", "pinned", "-n", namespace, "--subresource=scale", "-o", "json"))
    assert scale["status"]["replicas"] == 2 and scale["status"]["selector"]
    metadata = {"namespace": namespace, "name": "pinned"}
    target = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint", "name": "pinned"}
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    ]
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": metrics}
    system.apply(
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}
    )

    def attached() -> bool:
        conditions = system.get("hpa", "pinned", "-n", namespace).get("status", {}).get("conditions") or []
        able: Json = next((c for c in conditions if c["type"] == "AbleToScale"), {})
        assert able.get("reason") not in ("FailedGetScale", "FailedUpdateScale"), able
        return able.get("status") == "True"

    wait_until("the autoscaler attaches", attached, 60)
    system.kubectl("delete", "hpa", "pinned", "-n", namespace)
    system.kubectl("scale", "iep/pinned", "-n", namespace, "--replicas=0")
    system.wait_state(namespace, "pinned", "Asleep", timeout=60)
