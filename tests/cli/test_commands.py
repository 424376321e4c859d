"""The commands against a real API server. The tests play the operator, so that they need none.

Endpoints are called `x-…` and suspended from the start where an operator that happens to run would write as well.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.cli.conftest import Cli
from zerotide.api.apikey import digest, parse_key
from zerotide.cli import uninstall
from zerotide.cli.main import main
from zerotide.kube import Client, Listing, Object, Resource
from zerotide.kube.resources import API_KEYS, DEPLOYMENTS, INFERENCE_ENDPOINTS, PODS

MODEL = ("--model", "image:///models/smollm2")
HEADER = "NAME STATE READY REPLICAS ENGINE MODEL COLD-P90 MONTH LAST-USED AGE"
SERVING = {"Ready": "True Serving it serves", "Stalled": "False Serving it serves"}


async def test_the_life_of_an_endpoint(cli: Cli) -> None:
    """Deployed, listed, shown, changed, and every switch that people turn."""
    deployed = await cli("deploy", "m", *MODEL, "--idle", "10m", "--max", "3")
    assert (deployed.code, deployed.out) == (0, f"{cli.namespace}/m\n")
    assert "zerotide call m" in deployed.err
    again = await cli("deploy", "m", *MODEL, "--idle", "20m", "--max", "3", "--json")
    assert json.loads(again.out)["spec"]["scaling"]["idle"]["timeout"] == "20m"
    listed = await cli("list")
    assert listed.out.splitlines()[0].split() == HEADER.split()
    assert listed.out.splitlines()[1].startswith("m ")
    assert (await cli("list", "-q")).out == "m\n"
    assert f"{cli.namespace}/m\n" in (await cli("list", "-q", "-A", bare=True)).out
    assert [item["metadata"]["name"] for item in json.loads((await cli("list", "--json")).out)] == ["m"]
    shown = (await cli("get", "m")).out
    assert f"Name:          {cli.namespace}/m" in shown and "0 to 3, idle after 20m" in shown
    assert json.loads((await cli("get", "m", "--json")).out)["metadata"]["name"] == "m"
    for command, said in (("wake", "Asked to wake."), ("sleep", "Asked to sleep."), ("suspend", "Suspended.")):
        result = await cli(command, "m")
        assert (result.code, result.out, result.err) == (0, f"{cli.namespace}/m\n", f"{said}\n")
    await cli("scale", "m", "2")
    item = await cli.get("m")
    assert set(item["metadata"]["annotations"]) == {"zerotide.dev/wake-requested-at", "zerotide.dev/sleep-requested-at"}
    assert item["spec"]["suspend"] is True and item["spec"]["scaling"]["pinnedReplicas"] == 2
    assert "Suspended:" in (await cli("get", "m")).out and "pinned to 2" in (await cli("get", "m")).out
    for line, why in (("wake m", "`zerotide resume m` first"), ("scale m 1 --for 1h", "`zerotide scale m 0` first")):
        in_vain = await cli(*line.split())
        assert (in_vain.code, in_vain.out) == (1, "") and why in in_vain.err
    assert (await cli("resume", "m", "--json")).code == 0
    assert (await cli("scale", "m", "0")).err == "Left to Zerotide.\n"
    item = await cli.get("m")
    assert item["spec"]["suspend"] is False and item["spec"]["scaling"]["pinnedReplicas"] == 0
    assert "At least 2 until 20" in (await cli("scale", "m", "2", "--for", "2h")).err
    assert (await cli.get("m"))["spec"]["scaling"]["override"]["minReplicas"] == 2
    assert "Override:" in (await cli("get", "m")).out
    assert (await cli("scale", "m", "0")).code == 0
    assert "override" not in (await cli.get("m"))["spec"]["scaling"]
    assert (await cli("scale", "m", "9", "--for", "1h")).code == 1
    too_many = await cli("scale", "m", "9")
    assert too_many.code == 1 and "pinnedReplicas must not be greater than scaling.maxReplicas" in too_many.err


async def test_what_is_not_there(cli: Cli) -> None:
    """Exit code 3, and where to look."""
    for line in ("get m", "url m", "logs m", "wake m", "scale m 1", "wait m", "key revoke k"):
        result = await cli(*line.split())
        assert (result.code, result.out) == (3, ""), line
        assert "see `zerotide" in result.err
    assert "make one with `zerotide deploy`" in (await cli("list")).err
    assert "make one with `zerotide key create`" in (await cli("key", "list")).err
    assert (await cli("wait", "m", "--for", "deleted")).code == 0


async def test_wait(cli: Cli) -> None:
    """It follows the status: reached, failed, timed out, deleted."""
    await cli("deploy", "m", *MODEL)

    async def waiting(goal: str) -> asyncio.Task[int]:
        task = asyncio.create_task(asyncio.to_thread(_wait, goal))
        await asyncio.sleep(0.5)  # until it follows: it sees every version from then on, an operator's own included
        return task

    def _wait(goal: str) -> int:
        return main(["wait", "m", "--for", goal, "--timeout", "20s", "-n", cli.namespace])

    await cli.status("m", "Loading", Ready="True Waking it loads", Stalled="False Waking it loads")
    task = await waiting("awake")
    assert not task.done()
    await cli.status("m", "Awake", **SERVING)
    assert await task == 0
    result = await cli("wait", "m", "--for", "suspended", "--timeout", "1s")
    assert result.code == 5 and "is not suspended after 1s" in result.err
    await cli.status("m", "Loading", Ready="True Waking it loads", Stalled="False Waking it loads")
    task = await waiting("awake")
    cli.capsys.readouterr()
    await cli.status("m", "Failed", Ready="False CrashLooping it ends with code 1", Stalled="True CrashLooping it ends")
    assert await task == 6
    assert "CrashLooping: it ends with code 1" in cli.capsys.readouterr().err
    task = await waiting("deleted")
    await cli.client.delete(INFERENCE_ENDPOINTS, "m", cli.namespace)
    assert await task == 0


async def test_a_status_of_an_older_spec_proves_nothing(cli: Cli) -> None:
    """After a change, only what the operator wrote about it counts."""
    await cli("deploy", "m", *MODEL)
    stale = await cli.status("m", "Asleep", Ready="True ScaledToZero x", Stalled="False ScaledToZero x")
    await cli("suspend", "m")
    if (await cli.get("m"))["status"] == stale["status"]:
        assert (await cli("wait", "m", "--for", "asleep", "--timeout", "1s")).code == 5


async def test_keys(cli: Cli) -> None:
    """The key is printed once, fits its object's digest, and is gone when revoked."""
    made = await cli("key", "create", "me", "--endpoint", "m", "--expires", "1h", "--max-in-flight", "3")
    key = parse_key(made.out.strip())
    item = await cli.client.get(API_KEYS, "me", cli.namespace)
    assert item["spec"]["digest"] == digest(key.secret)
    assert {name: item["spec"][name] for name in ("consumer", "endpoints", "maxInFlight")} == {
        "consumer": "me",
        "endpoints": ["m"],
        "maxInFlight": 3,
    }
    assert made.out.strip() not in made.err
    listed = (await cli("key", "list")).out
    assert listed.splitlines()[1].split()[:4] == ["me", "me", "m", "Live"] and made.out.strip() not in listed
    taken = await cli("key", "create", "me")
    assert taken.code == 1 and "zerotide key revoke me" in taken.err
    # Whoever found a leaked key pastes it whole.
    revoked = await cli("key", "revoke", made.out.strip())
    assert (revoked.code, revoked.out) == (0, f"{cli.namespace}/me\n")
    assert (await cli("key", "list")).out == ""


async def test_url(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the gateway where the environment names one, else within the cluster with a word on how to reach it."""
    await cli("deploy", "m", *MODEL)
    inside = await cli("url", "m")
    assert inside.out == f"http://m.{cli.namespace}.svc\n" and "kubectl port-forward" in inside.err
    monkeypatch.setenv("ZEROTIDE_GATEWAY", "http://127.0.0.1:31080/")
    outside = f"http://127.0.0.1:31080/endpoints/{cli.namespace}/m"
    assert (await cli("url", "m")).out == f"{outside}\n"
    assert json.loads((await cli("url", "m", "--json")).out)["openaiBaseURL"] == f"{outside}/v1"


def workload(namespace: str, finalizers: list[str]) -> Object:
    """Return a Deployment as the operator makes it, of a container that does nothing."""
    labels = {"zerotide.dev/endpoint": "m", "app.kubernetes.io/managed-by": "zerotide-operator"}
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "model", "image": "localhost/zerotide/pause:1"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "m", "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"zerotide.dev/endpoint": "m"}},
            "template": {"metadata": {"labels": labels, "finalizers": finalizers}, "spec": pod},
        },
    }


async def until_pods(cli: Cli, number: int) -> list[Object]:
    """Wait until so many pods exist."""
    async with asyncio.timeout(60):
        while len(pods := (await cli.client.list(PODS, cli.namespace)).items) != number:
            await asyncio.sleep(0.1)
        return pods


async def test_logs_of_an_endpoint_that_sleeps(cli: Cli) -> None:
    """It is no error, and a word says why there is nothing."""
    await cli("deploy", "m", *MODEL)
    result = await cli("logs", "m")
    assert (result.code, result.out) == (0, "") and "has no replica: it sleeps" in result.err


async def test_version(cli: Cli) -> None:
    """Of the command and of the cluster."""
    assert json.loads((await cli("version", "--json")).out)["kubernetes"].startswith("v1.")


async def test_uninstall_releases_what_would_wait_for_ever(cli: Cli) -> None:
    """Deployments go to zero and finalizers are taken off; a second run finds nothing to do."""
    await cli.client.create(DEPLOYMENTS, workload(cli.namespace, ["metering.zerotide.dev/ledger"]))
    await until_pods(cli, 1)
    released = 0
    async with _Here(cli) as here, asyncio.timeout(60):
        # An exporter that happens to run here may be faster than we are.
        released += await uninstall.run(here, "no-such-system", 0.0, poll=0.1)
        await until_pods(cli, 0)
        assert released <= 1
        assert (await cli.client.get(DEPLOYMENTS, "m", cli.namespace))["spec"]["replicas"] == 0
        assert await uninstall.run(here, "no-such-system", 0.0, poll=0.1) == 0


class _Here(Client):
    """A client that sees one namespace as if it were the cluster, so that other tests' objects stay as they are."""

    def __init__(self, cli: Cli) -> None:
        super().__init__(cli.client.credentials)
        self._only = cli.namespace

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        """List within the namespace."""
        return await super().list(resource, self._only, label_selector=label_selector, field_selector=field_selector)


async def test_waiting_for_a_proof(cli: Cli) -> None:
    """Reached, refused with the reason, or senseless where nobody verifies."""
    await cli("deploy", "m", "--model", "image:///m", "--verify")
    assert (await cli.get("m"))["spec"]["start"]["verify"] == "OnChange"
    await cli.status("m", "Asleep", Verified="True Started ready within 3s")
    assert (await cli("wait", "m", "--for", "verified")).code == 0
    assert (await cli("deploy", "m", "--model", "image:///m", "--verify", "--wait")).code == 0
    await cli.status("m", "Failed", Stalled="True CrashLooping it died", Verified="Unknown Verifying not known")
    result = await cli("wait", "m", "--for", "verified", "--timeout", "1s")
    assert result.code == 5, "it is tried again"
    assert "m is not verified after 1s: its state is Failed (not known)" in result.err
    await cli.status("m", "Asleep", Verified="False CrashLooping it died twice")
    result = await cli("wait", "m", "--for", "verified")
    assert result.code == 6 and "m cannot start: CrashLooping: it died twice" in result.err
    await cli.status("m", "Asleep", Ready="True ScaledToZero asleep")
    result = await cli("wait", "m", "--for", "verified")
    assert result.code == 1 and "set spec.start.verify to OnChange" in result.err
