"""What runs before the chart is uninstalled: stop the operator, put every endpoint to sleep, release its pods.

Without it models would run on, at a cost, with nothing left that can call them; and their pods, which hold the
metering finalizer, would never go away. The exporter still runs, so it records their ends and releases them itself;
what is left after the wait is released here. `python -m zerotide.cli.uninstall --system-namespace NS --wait SECONDS`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from zerotide.api.names import FINALIZER_LEDGER, LABEL_ENDPOINT, LABEL_MANAGED_BY, MANAGER_OPERATOR, SYSTEM_NAMESPACE
from zerotide.kube import Client, Invalid, KubeError, NotFound, Object, load_credentials
from zerotide.kube.resources import DEPLOYMENTS, PODS

MODELS = f"{LABEL_ENDPOINT},{LABEL_MANAGED_BY}={MANAGER_OPERATOR}"
TEST_POD = "zerotide-test"
OPERATORS = "app.kubernetes.io/name=zerotide,app.kubernetes.io/component=operator"


async def run(client: Client, system_namespace: str, wait: float, *, poll: float = 1.0) -> int:
    """Do it all and say so; return the number of pods that had to be released without the ledger."""
    deadline = time.monotonic() + wait
    await _remove_test_pod(client, system_namespace)
    await _stop_operator(client, system_namespace, deadline, poll)
    for deployment in (await client.list(DEPLOYMENTS, label_selector=MODELS)).items:
        await _scale_to_zero(client, deployment)
    while pods := await _held(client):
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(poll)
    for pod in pods:
        await release(client, pod)
        print(f"released {_name(pod)}; the ledger may lack its end", flush=True)
    return len(pods)


async def _remove_test_pod(client: Client, namespace: str) -> None:
    """Delete what `helm test` leaves for its logs, since Helm forgets the objects of hooks."""
    try:
        await client.delete(PODS, TEST_POD, namespace)
    except NotFound:
        return


async def _stop_operator(client: Client, namespace: str, deadline: float, poll: float) -> None:
    """Scale the operator down first: it would start again what is put to sleep."""
    try:
        await client.patch(DEPLOYMENTS, MANAGER_OPERATOR, namespace, {"spec": {"replicas": 0}})
    except NotFound:
        return
    while time.monotonic() < deadline:
        if not (await client.list(PODS, namespace, label_selector=OPERATORS)).items:
            return
        await asyncio.sleep(poll)


async def _scale_to_zero(client: Client, deployment: Object) -> None:
    metadata = deployment["metadata"]
    if not deployment["spec"].get("replicas"):
        return
    try:
        await client.patch(DEPLOYMENTS, metadata["name"], metadata["namespace"], {"spec": {"replicas": 0}})
        print(f"{_name(deployment)} sleeps", flush=True)
    except NotFound:
        return


async def _held(client: Client) -> list[Object]:
    pods = (await client.list(PODS, label_selector=LABEL_ENDPOINT)).items
    return [pod for pod in pods if FINALIZER_LEDGER in (pod["metadata"].get("finalizers") or [])]


async def release(client: Client, pod: Object) -> None:
    """Remove our finalizer from a pod, unless somebody was faster."""
    metadata = pod["metadata"]
    path = f"/metadata/finalizers/{metadata['finalizers'].index(FINALIZER_LEDGER)}"
    patch = [{"op": "test", "path": path, "value": FINALIZER_LEDGER}, {"op": "remove", "path": path}]
    try:
        await client.patch(PODS, metadata["name"], metadata["namespace"], patch, kind="json")
    except (NotFound, Invalid):
        return


def _name(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


async def _main(args: argparse.Namespace) -> int:
    try:
        async with Client(await load_credentials()) as client:
            await run(client, args.system_namespace, args.wait)
    except KubeError as error:
        print(f"uninstall: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and prepare the uninstallation."""
    parser = argparse.ArgumentParser(prog="zerotide.cli.uninstall", description="Put endpoints to sleep for good.")
    parser.add_argument("--system-namespace", default=SYSTEM_NAMESPACE, help="where Zerotide runs")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for the ledger")
    return asyncio.run(_main(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
