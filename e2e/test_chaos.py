"""Operator, activator, exporter and database are killed under traffic; the system converges, the bill stays exact."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e import traffic
from e2e.cluster import Cluster
from e2e.cluster.layout import NODE_ADDRESS
from e2e.fixtures import GivenCluster
from e2e.harness import Json, System, WaitTimedOut, chat, trivial, wait_until
from e2e.oracle import Held, Oracle
from e2e.postgres import Database
from e2e.tools import folder_of
from e2e.up.install import NAMESPACE, RELEASE
from e2e.up.target import ROOT
from zerotide.billing.reports import PodSegments, SegmentReport

COMPONENTS = ("operator", "activator", "exporter")
GPU = {"className": "nvidia-h100-80gb", "count": 1}
STORM_S = float(os.environ.get("ZEROTIDE_STORM_S", "600"))
"""Seconds that the long storm lasts."""
DATABASE_PORT = 25432


def settled(system: System) -> bool:
    """Tell whether every component has all its replicas ready."""
    listed = system.get("deployments", "-n", "zerotide-system")["items"]
    return all(item["status"].get("readyReplicas", 0) == item["spec"]["replicas"] for item in listed)


async def traffic_until(stop: asyncio.Event, url: str, key: str, answers: list[traffic.Answer]) -> None:
    """Send requests with pauses in which the endpoint falls asleep, until told to stop."""
    while not stop.is_set():
        answers += await traffic.burst(url, key, chat(), 3, timeout=90)
        await asyncio.sleep(1.0 if len(answers) % 2 else 7.0)


def replicas(system: System, namespace: str) -> dict[str, PodSegments]:
    """Return what the ledger knows of a namespace's pods, by uid, as its own API tells it."""
    path = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy"
    token = system.kubectl("create", "token", "zerotide-reader", "-n", "zerotide-system").strip()
    report = SegmentReport.model_validate(system.report(f"{path}/api/v1/segments?namespace={namespace}", token))
    return {pod.pod_uid: pod for pod in report.pods}


class Site:
    """A namespace with endpoints that are called until they are told to stop, and a witness of their pods."""

    def __init__(self, system: System, cluster: Cluster | GivenCluster, **endpoints: Json) -> None:
        self.system, self.namespace = system, system.namespace()
        self.key, self.names = system.key(self.namespace, "k"), list(endpoints)
        ctr = cluster.ctr() if isinstance(cluster, Cluster) else ()
        self.oracle = Oracle(system.kubectl_path, system.kubeconfig, self.namespace, ctr)
        self.answers: list[traffic.Answer] = []
        self._endpoints = endpoints
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def url(self, name: str) -> str:
        """Return where an endpoint is called."""
        return self.system.url(self.namespace, name, "/v1/chat/completions")

    def begin(self) -> None:
        """Make the endpoints and send requests."""
        for name, spec in self._endpoints.items():
            self.system.endpoint(self.namespace, name, spec)
            sending = traffic_until(self._stop, self.url(name), self.key, self.answers)
            self._tasks.append(asyncio.create_task(sending))

    async def end(self) -> None:
        """Send no more; every endpoint must answer once more, sleep, and be let go of."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        for name in self.names:
            final = await traffic.once(self.url(name), self.key, chat(), timeout=90)
            assert final.status == 200, final
        for name in self.names:
            await asyncio.to_thread(self.system.wait_state, self.namespace, name, "Asleep", timeout=90)
        await asyncio.to_thread(wait_until, "all pods are released", self.released, 90)

    def released(self) -> bool:
        """Tell whether the exporter has let go of every pod."""
        return not any(self.system.pods(self.namespace, name) for name in self.names)

    def compare(self) -> int:
        """Check that the ledger knows the pods that were seen and no others, each to the second; return how many."""

        def same() -> bool:
            return not differences(self.oracle.held(), replicas(self.system, self.namespace))

        try:
            wait_until("the ledger says what was seen", same, 30, every=1.0)
        except WaitTimedOut:
            held = self.oracle.held()
            assert differences(held, replicas(self.system, self.namespace)) == [], held
        assert self.oracle.watching
        held = self.oracle.held()
        ended = [each for each in held.values() if each.end is not None]
        assert len(ended) > len(held) / 2, "of pods that never began to run, nobody knows the second of the end"
        return len(held)


def differences(held: dict[str, Held], known: dict[str, PodSegments]) -> list[str]:
    """Return in words where the ledger and the oracle do not say the same."""
    found = [f"{known[uid].pod} was seen by the ledger alone" for uid in known.keys() - held.keys()]
    for uid, seen in held.items():
        if uid not in known:
            found.append(f"{seen.name} was not seen by the ledger")
            continue
        own = [segment for segment in known[uid].segments if segment.phase != "queued"]
        if any(one.to_us != other.from_us for one, other in itertools.pairwise(own)):
            found.append(f"{seen.name} has gaps or overlaps: {own}")
        start, end = known[uid].allocated_from_us / 1e6, known[uid].allocated_to_us / 1e6
        total = sum(segment.to_us - segment.from_us for segment in own) / 1e6
        if seen.start is not None and start != seen.start:
            found.append(f"{seen.name} began {seen.start}, not {start}")
        if seen.start is not None and seen.end is not None and (end, total) != (seen.end, seen.seconds):
            found.append(f"{seen.name} ended {seen.end} after {seen.seconds} s, not {end} after {total} s")
    return found


async def test_killing_every_process_loses_nothing(system: System, cluster: Cluster | GivenCluster) -> None:
    """After each kill requests are served again; for every pod the segments sum exactly to its allocation."""
    site = Site(system, cluster, chaos=trivial(idle="5s"))
    with site.oracle:
        site.begin()
        for component in COMPONENTS:
            await asyncio.to_thread(system.kill, component)
            await asyncio.sleep(5)
            await asyncio.to_thread(wait_until, f"recovered from {component}", lambda: settled(system), 120)
        await site.end()
        answers = site.answers
        unexpected = [answer for answer in answers if answer.status not in (0, 200, 502, 503)]
        assert not unexpected and sum(answer.status == 200 for answer in answers) >= len(answers) / 2, answers
        assert await asyncio.to_thread(site.compare) >= 2, "the endpoint slept and woke under traffic"


@contextmanager
def on_postgres(system: System, cluster: Cluster) -> Iterator[Database]:
    """Have the ledger in a PostgreSQL within the cluster's network, and back in its file afterwards."""
    with Database(NODE_ADDRESS, DATABASE_PORT, cluster.inside_command) as database:
        secret = ("-n", NAMESPACE, "secret", "generic", "zerotide-storm", f"--from-literal=url={database.address}")
        system.kubectl("create", *secret[2:], *secret[:2])
        try:
            helm(system, "zerotide-storm")
            yield database
        finally:
            helm(system, "")
            system.kubectl("delete", "secret", "zerotide-storm", "-n", NAMESPACE)


def helm(system: System, secret: str) -> None:
    """Tell the chart where the ledger is, and wait until it is there."""
    command = [str(folder_of("helm") / "helm"), "upgrade", RELEASE, str(ROOT / "charts/zerotide"), "-n", NAMESPACE]
    # The archive lies on the volume of a ledger in a file.
    values = f"exporter.database.secretName={secret},exporter.archive.enabled={'false' if secret else 'true'}"
    command += ["--reuse-values", "--wait", "--timeout", "5m", "--set", values]
    environment = {**os.environ, "KUBECONFIG": str(system.kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.soak
async def test_a_storm_of_kills_costs_no_second(system: System, cluster: Cluster | GivenCluster) -> None:
    """For ten minutes everything that meters, decides or serves is killed at random, its database included."""
    if isinstance(cluster, GivenCluster):
        pytest.skip("the processes of somebody else's cluster are not ours to kill")
    rng = random.Random(20)
    kills = dict.fromkeys((*COMPONENTS, "database"), 0)
    with on_postgres(system, cluster) as database:
        gpu = trivial(idle="5s", accelerator=GPU)
        site = Site(system, cluster, one=trivial(idle="5s"), two=trivial(idle="8s"), gpu=gpu)
        with site.oracle:
            site.begin()
            deadline = time.monotonic() + STORM_S
            while time.monotonic() < deadline:
                await asyncio.sleep(rng.uniform(1, 8))
                victim = rng.choice(list(kills))
                kills[victim] += 1
                if victim == "database":
                    await asyncio.to_thread(database.kill)
                    await asyncio.sleep(rng.uniform(0, 3))
                    await asyncio.to_thread(database.start)
                else:
                    await asyncio.to_thread(system.kill, victim)
            # Kubernetes lets what was killed often wait up to five minutes.
            await asyncio.to_thread(wait_until, "all is back", lambda: settled(system), 400)
            await site.end()
            pods = await asyncio.to_thread(site.compare)
    served = sum(answer.status == 200 for answer in site.answers)
    print(
        f"{kills} in {STORM_S:.0f} s; {served} of {len(site.answers)} requests served; {pods} pods, none off a second"
    )
    assert min(kills.values()) >= 1 and served > 0 and pods >= 3
