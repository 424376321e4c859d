"""Activators are replaced and killed, the API server stands still, the operator is away: what is lost, and what is not.

The clients are inside the cluster's network, half of them on the gateway's Service and half on the endpoint's own, and
none of them retries.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster
from e2e.crowd import Crowd, Group, Told, bad
from e2e.fixtures import GivenCluster
from e2e.harness import Json, System, chat, trivial, wait_until

UNLIMITED: dict[str, Any] = {
    "scaling": {"concurrency": {"limit": 0, "target": 1000}, "idle": {"timeout": "10m"}},
    "hold": {"maxRequests": 1000},
    "access": {"maxInFlightPerConsumer": 10000},
}
ROLL = 25
"""Seconds for which requests go on while activators are replaced."""


@pytest.fixture
def node(cluster: Cluster | GivenCluster) -> Cluster:
    """Give the cluster of this machine: its network can be entered, and its processes stopped."""
    if isinstance(cluster, GivenCluster):
        pytest.skip("the processes of somebody else's cluster are not ours to stop")
    return cluster


class Site:
    """A namespace with a key, and the ways to its endpoints."""

    def __init__(self, system: System) -> None:
        self.system, self.namespace = system, system.namespace()
        self.key = system.key(self.namespace, "k")
        gateway = system.get("service", "zerotide-gateway", "-n", "zerotide-system")
        self.gateway = f"http://{gateway['spec']['clusterIP']}"

    def endpoint(self, name: str, **env: object) -> None:
        """Make a sleeping endpoint without limits."""
        self.system.endpoint(self.namespace, name, trivial(env={key: str(env[key]) for key in env}, **UNLIMITED))

    def wake(self, *names: str) -> None:
        """Have endpoints awake and keep them so."""
        for name in names:
            self.system.kubectl("scale", f"iep/{name}", "-n", self.namespace, "--replicas=1")
        for name in names:
            self.system.wait_state(self.namespace, name, "Awake")

    def groups(self, name: str, count: int, *, stream: bool = False, **more: Any) -> list[Group]:
        """Return clients of an endpoint, `count` on either Service."""
        service = self.system.get("service", name, "-n", self.namespace)
        own = f"http://{service['spec']['clusterIP']}/v1/chat/completions"
        host = {"Host": f"{name}.{self.namespace}.svc"}
        through = f"{self.gateway}/endpoints/{self.namespace}/{name}/v1/chat/completions"
        body = chat(stream=stream)
        return [
            Group(f"{name}/gateway", through, self.key, body, count, **more),
            Group(f"{name}/own", own, self.key, body, count, headers=host, **more),
        ]

    def steady(self, name: str) -> list[Group]:
        """Return clients that go on, on kept connections and on new ones."""
        kept, fresh = self.groups(name, 3, steady=True), self.groups(name, 2, steady=True, fresh=True)
        return [*kept, *(Group(**{**vars(group), "name": f"{group.name}/fresh"}) for group in fresh)]


def nothing_lost(answers: dict[str, list[Told]], *names: str) -> int:
    """Check that every answer of some endpoints was good, and return how many there were."""
    found = [each for group, told in answers.items() if group.split("/")[0] in names for each in told]
    assert found
    assert not bad(found), (len([each for each in found if not each.good]), len(found), bad(found))
    return len(found)


def settled(system: System) -> bool:
    """Tell whether the activators are those that their Deployment wants, all ready, none on its way out."""
    pods = system.activators()
    wanted = system.get("deployment", "zerotide-activator", "-n", "zerotide-system")["spec"]["replicas"]
    ready = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)]
    return len(pods) == len(ready) == int(wanted)


def is_ready(pod: Json) -> bool:
    """Tell whether a pod is ready."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions", ()))


def test_a_rolling_restart_loses_nothing(system: System, node: Cluster) -> None:
    """100 held, 100 streaming and a few steady clients live through the replacement of both activators."""
    site = Site(system)
    site.endpoint("held", DELAY_MS=ROLL * 1000)
    site.endpoint("streams", EVENTS=ROLL, RESPONSE_MS=1000)
    site.endpoint("quick")
    site.wake("streams", "quick")
    before = {pod["metadata"]["uid"] for pod in system.activators()}
    groups = [*site.groups("held", 50), *site.groups("streams", 50, stream=True), *site.steady("quick")]
    with Crowd(node, groups) as crowd:

        def all_there() -> bool:
            held = system.figure("zerotide_held_requests", site.namespace)
            return held == 100 and system.figure("zerotide_in_flight_requests", site.namespace) >= 100

        wait_until("all requests are held or stream", all_there, 20, every=0.5)
        began = time.monotonic()
        system.kubectl("rollout", "restart", "deployment/zerotide-activator", "-n", "zerotide-system")
        system.kubectl("rollout", "status", "deployment/zerotide-activator", "-n", "zerotide-system", "--timeout=60s")
        assert time.monotonic() - began < ROLL - 3, "both were told to go while requests went on"
        assert not [each for each in crowd.told if each.group.startswith(("held", "streams"))]
        wait_until("the old ones are gone", lambda: settled(system), ROLL + 20)
        assert not before & {pod["metadata"]["uid"] for pod in system.activators()}
        answers = crowd.dismiss(20)
    assert nothing_lost(answers, "held", "streams") == 200
    assert {each.events for name in ("streams/gateway", "streams/own") for each in answers[name]} == {ROLL}
    assert nothing_lost(answers, "quick") > 500


def test_a_killed_activator_loses_only_its_own(system: System, node: Cluster) -> None:
    """Streams and held requests of the other one are answered in full; those of the dead one end as errors."""
    site = Site(system)
    site.endpoint("streams", EVENTS=8, RESPONSE_MS=1000)
    site.endpoint("held", DELAY_MS=7000)
    site.wake("streams")
    victim, other = system.activators()

    def on(pod: Json, name: str, *, stream: bool) -> Group:
        url = f"http://{pod['status']['podIP']}:8080/endpoints/{site.namespace}/{name}/v1/chat/completions"
        group = f"{name}/{'victim' if pod is victim else 'other'}"
        return Group(group, url, site.key, chat(stream=stream), 20)

    groups = [on(pod, name, stream=name == "streams") for pod in (victim, other) for name in ("streams", "held")]
    with Crowd(node, groups) as crowd:

        def all_there() -> bool:
            held = system.figure("zerotide_held_requests", site.namespace)
            return held == 40 and system.figure("zerotide_in_flight_requests", site.namespace) == 40

        wait_until("all requests are held or stream", all_there, 6)
        system.kill_pod(victim, "zerotide.activator")
        answers = crowd.dismiss(30)
    assert (
        nothing_lost({name: told for name, told in answers.items() if name.endswith("/other")}, "streams", "held") == 40
    )
    lost = answers["streams/victim"] + answers["held/victim"]
    assert len(lost) == 40
    assert not [each for each in lost if each.whole or not each.error], "no cut answer looks complete"
    wait_until("it is back", lambda: settled(system), 30)


@contextlib.contextmanager
def frozen_api_server(node: Cluster) -> Iterator[None]:
    """Let the API server stand still: connections to it hang."""
    folder = f"{node.state_dir}/"
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text() if process.name.isdigit() else ""
            if "/kube-apiserver" in command and folder in command:
                found.append(int(process.name))
    assert len(found) == 1, found
    os.kill(found[0], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(found[0], signal.SIGCONT)


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.soak)])
def test_warm_traffic_needs_no_api_server(system: System, node: Cluster, seconds: int) -> None:
    """While it stands still, and when it comes back, every request is answered."""
    site = Site(system)
    site.endpoint("quick")
    site.endpoint("streams", EVENTS=seconds, RESPONSE_MS=1000)
    site.wake("quick", "streams")
    with Crowd(node, [*site.steady("quick"), *site.groups("streams", 10, stream=True)]) as crowd:
        wait_until("they are at work", lambda: len(crowd.told) > 20, 10)
        with frozen_api_server(node):
            time.sleep(seconds)
            during = crowd.told
        wait_until("it answers again", lambda: system.try_kubectl("get", "--raw", "/readyz").returncode == 0, 30)
        wait_until("all are ready", lambda: settled(system), 60, every=0.5)
        answers = crowd.dismiss(20)
    assert not bad(during)
    assert len(during) > 50 * seconds
    assert nothing_lost(answers, "streams") == 20
    if seconds > 40:
        # Once it is back, Kubernetes takes the node for lost until the kubelet reports, and its own Services refuse new
        # connections meanwhile; those that are kept, and the endpoint's own Service, are not concerned.
        del answers["quick/gateway/fresh"]
    assert nothing_lost(answers, "quick") > 50 * seconds


def test_warm_traffic_needs_no_operator(system: System, node: Cluster) -> None:
    """With no operator at all requests are answered, on the endpoint's own Service too."""
    site = Site(system)
    site.endpoint("quick")
    site.wake("quick")
    operator = ["deployment/zerotide-operator", "-n", "zerotide-system"]
    replicas = system.get(*operator)["spec"]["replicas"]
    with Crowd(node, site.steady("quick")) as crowd:
        system.kubectl("scale", *operator, "--replicas=0")
        try:
            selector = ["-l", "app.kubernetes.io/component=operator", "-n", "zerotide-system"]
            wait_until("no operator is left", lambda: not system.get("pods", *selector)["items"], 30)
            without = len(crowd.told)
            wait_until("traffic goes on without it", lambda: len(crowd.told) > without + 100, 20)
        finally:
            system.kubectl("scale", *operator, f"--replicas={replicas}")
        answers = crowd.dismiss(20)
    assert nothing_lost(answers, "quick") > 100
    ready = "{.status.readyReplicas}"
    wait_until("it is back", lambda: system.kubectl("get", *operator, "-o", f"jsonpath={ready}") == str(replicas), 60)
