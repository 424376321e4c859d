"""An operator that runs from source inside a real cluster, with stand-ins for the activator and the exporter.

The pods of endpoints carry the exporter's finalizer, so something must release them: `Releaser` does, as soon as
their containers have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import yaml

from e2e.cluster import Cluster
from e2e.cluster.layout import NODE_ADDRESS
from e2e.tools import folder_of
from zerotide.api.names import AUDIENCE_ACTIVATOR, FINALIZER_LEDGER, LABEL_ENDPOINT, MANAGER_ACTIVATOR
from zerotide.api.scalars import format_micro_time
from zerotide.kube import Change, Client, Clock, Conflict, Invalid, NotFound, Reflector, Resource
from zerotide.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    INFERENCE_ENDPOINTS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
)

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
SYSTEM = "zerotide-system"
TRIVIAL = "zerotide/trivial:dev"
DEMAND_PORT = 19091
ADMIN_PORT = 19090


_RBAC = "rbac.authorization.k8s.io"
_KINDS = {
    "ServiceAccount": SERVICE_ACCOUNTS,
    "ClusterRole": Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    "ClusterRoleBinding": Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    "Role": Resource(_RBAC, "v1", "roles", "Role"),
    "RoleBinding": Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
}
_ASK = """
import sys, time, urllib.request
for _ in range(300):
    try:
        urllib.request.urlopen(sys.argv[1])
        break
    except OSError:
        time.sleep(0.1)
else:
    raise SystemExit(1)
"""


def trivial(**spec: Any) -> Object:
    """Return a spec that serves in no time and sleeps after 5 s."""
    runtime = {"engine": "custom", "image": TRIVIAL, **spec.pop("runtime", {})}
    scaling = {"idle": {"timeout": "5s"}, **spec.pop("scaling", {})}
    pod = spec.pop("podTemplate", {"spec": {"containers": [{"name": "model", "imagePullPolicy": "Never"}]}})
    return {"model": {"uri": "image:///m"}, "runtime": runtime, "scaling": scaling, "podTemplate": pod, **spec}


class Process:
    """The operator, or a stand-in, inside the cluster's network."""

    def __init__(
        self, cluster: Cluster, command: list[str], log: Path, kubeconfig: Path | None = None, **environment: str
    ) -> None:
        self._log: IO[bytes] = log.open("ab")
        self.special = False
        """Whether it runs with settings that the next test must not meet."""
        self.admin_port = 0
        self.path = log
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", **environment}
        identity = ["env", f"KUBECONFIG={kubeconfig}"] if kubeconfig else []
        self.popen = cluster.run_inside(
            [*identity, sys.executable, *command],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def tell(self, command: Object) -> None:
        """Write one line of JSON to its standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(command).encode() + b"\n")
        self.popen.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.popen.send_signal(number)
        status = self.popen.wait(timeout=30)
        self._close()
        return status

    def _close(self) -> None:
        for pipe in (self.popen.stdin, self.popen.stdout, self._log):
            if pipe is not None:
                pipe.close()


class Processes:
    """The processes of a module's tests: one operator and one stand-in, until a test asks for something else."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._logs = cluster, folder
        self.folder = folder
        self.operators: list[Process] = []
        self.activator: Process | None = None

    def start_operator(self, **environment: str) -> Process:
        """Start an operator; more than one stand by for each other."""
        number = len(self.operators)
        command = ["-m", "zerotide.controller", "--port", str(ADMIN_PORT + 10 * number)]
        command += ["--activator-token-file", str(self._logs / "token")]
        command += ["--activator-port", str(DEMAND_PORT), "--log-format", "text"]
        settings = {"POD_NAME": f"op-{number}-{secrets.token_hex(2)}", "POD_NAMESPACE": SYSTEM, **environment}
        kubeconfig = self._logs / "kubeconfig"
        operator = Process(self._cluster, command, self._logs / "operator.log", kubeconfig, **settings)
        operator.admin_port = ADMIN_PORT + 10 * number
        self.operators.append(operator)
        return operator

    def wait_ready(self, operator: Process) -> None:
        """Wait until an operator says that it is ready."""
        url = f"http://127.0.0.1:{operator.admin_port}/readyz"
        command = [sys.executable, "-c", _ASK, url]
        assert self._cluster.run_inside(command).wait(timeout=60) == 0

    def start_activator(self, **options: str) -> Process:
        """Start a stand-in and wait until it listens."""
        command = [str(ROOT / "tests/controller/standin.py"), "--address", NODE_ADDRESS]
        command += ["--port", str(DEMAND_PORT), "--name", "act-0"]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", value]
        self.activator = Process(self._cluster, command, self._logs / "activator.log")
        assert self.activator.popen.stdout is not None
        assert self.activator.popen.stdout.readline() == b"ready\n"
        return self.activator

    def ensure(self) -> None:
        """Have exactly one operator with the usual settings, and a stand-in that is in order."""
        alive = [operator for operator in self.operators if operator.popen.poll() is None]
        if len(alive) != 1 or self.operators[-1].special:
            for operator in alive:
                operator.kill()
            self.operators = []
            self.start_operator()
        if self.activator is None or self.activator.popen.poll() is not None or self.activator.special:
            self.stop_activator()
            self.start_activator()

    def stop_activator(self) -> None:
        """End the stand-in."""
        if self.activator is not None and self.activator.popen.poll() is None:
            self.activator.kill()

    def close(self) -> None:
        """End every process."""
        for operator in self.operators:
            if operator.popen.poll() is None:
                operator.kill()
        self.stop_activator()


class Rig:
    """What a test of the operator needs: the cluster, a client with all rights, the operator and an activator."""

    def __init__(self, cluster: Cluster, client: Client, processes: Processes) -> None:
        self.cluster, self.client, self.processes = cluster, client, processes
        self.clock = Clock()
        self.namespaces: list[str] = []

    @property
    def operator(self) -> Process:
        """Return the operator that was started last."""
        return self.processes.operators[-1]

    @property
    def activator(self) -> Process:
        """Return the stand-in."""
        assert self.processes.activator is not None
        return self.processes.activator

    async def restart_operator(self, **environment: str) -> None:
        """Kill the operator without mercy and start another."""
        await asyncio.to_thread(self.operator.kill)
        operator = self.processes.start_operator(**environment)
        operator.special = bool(environment)

    async def restart_activator(self, **options: str) -> None:
        """Kill the stand-in and start another."""
        self.processes.stop_activator()
        activator = await asyncio.to_thread(lambda: self.processes.start_activator(**options))
        activator.special = bool(options)

    async def ready(self) -> None:
        """Make sure that the pod exists by which the operator finds the stand-in."""
        with contextlib.suppress(NotFound):
            await self.client.get(PODS, "act-0", SYSTEM)
            return
        await self._activator_pod()

    async def _activator_pod(self) -> None:
        labels = {"app.kubernetes.io/name": "zerotide", "app.kubernetes.io/component": "activator"}
        metadata = {"name": "act-0", "namespace": SYSTEM, "labels": labels}
        spec = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "x"}]}
        await self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": NODE_ADDRESS, "podIPs": [{"ip": NODE_ADDRESS}], "conditions": [ready]}
        await self.client.patch(PODS, "act-0", SYSTEM, {"status": status}, subresource="status")

    async def namespace(self) -> str:
        """Make a namespace of the test's own."""
        name = f"op-{secrets.token_hex(4)}"
        await self.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.namespaces.append(name)
        return name

    async def apply(self, namespace: str, name: str, spec: Object, **metadata: Any) -> Object:
        """Apply an endpoint as a person does."""
        body = {"metadata": {"name": name, "namespace": namespace, **metadata}, "spec": spec}
        return await self.client.apply(INFERENCE_ENDPOINTS, body, "kubectl")

    async def wake(self, namespace: str, name: str) -> str:
        """Ask for a wake as an activator does; return its id."""
        live = await self.client.get(INFERENCE_ENDPOINTS, name, namespace)
        wish = {"id": uuid4().hex, "time": format_micro_time(self.clock.now_us()), "by": "act-0"}
        metadata = {"name": name, "namespace": namespace, "uid": live["metadata"]["uid"]}
        body = {"metadata": metadata, "status": {"wakeRequest": wish}}
        await self.client.apply(INFERENCE_ENDPOINTS, body, MANAGER_ACTIVATOR, subresource="status")
        return wish["id"]

    async def demand(self, namespace: str, name: str, *, held: int = 0, in_flight: int = 0, touch: bool = True) -> None:
        """Have the stand-in say what the endpoint is asked for."""
        live = await self.client.get(INFERENCE_ENDPOINTS, name, namespace)
        key, uid = f"{namespace}/{name}", live["metadata"]["uid"]
        self.activator.tell({"endpoint": key, "uid": uid, "held": held, "inFlight": in_flight, "touch": touch})

    async def until(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        holds: Callable[[Object | None], bool],
        timeout: float = 30.0,
    ) -> Object | None:
        """Watch one object until something holds of it; None stands for an object that does not exist."""
        last: list[Object | None] = [None]
        done = asyncio.Event()

        def changed(change: Change) -> None:
            last[0] = change.object if change.type == "set" else None
            if holds(last[0]):
                done.set()

        mirror = Reflector(self.client, resource, namespace, field_selector=f"metadata.name={name}", on_change=changed)
        task = asyncio.create_task(mirror.run())
        try:
            async with asyncio.timeout(timeout):
                await mirror.synced.wait()
                if last[0] is None and holds(None):
                    return None
                await done.wait()
        except TimeoutError:
            shown = json.dumps(last[0], indent=1)[:4000]
            raise AssertionError(f"{resource.kind} {namespace}/{name} did not come to it:\n{shown}") from None
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return last[0]

    async def state(self, namespace: str, name: str, *states: str, timeout: float = 30.0) -> Object:
        """Wait until an endpoint is in one of the states; return its status."""
        found = await self.until(
            INFERENCE_ENDPOINTS,
            namespace,
            name,
            lambda obj: ((obj or {}).get("status") or {}).get("state") in states,
            timeout,
        )
        status: Object = (found or {})["status"]
        return status

    async def replicas(self, namespace: str, name: str, count: int, timeout: float = 30.0) -> Object:
        """Wait until a Deployment asks for so many replicas; return it."""
        found = await self.until(
            DEPLOYMENTS, namespace, name, lambda obj: obj is not None and obj["spec"]["replicas"] == count, timeout
        )
        assert found is not None
        return found

    async def close(self) -> None:
        """Remove every namespace."""
        for name in self.namespaces:
            await self.client.delete(NAMESPACES, name)


class Releaser:
    """A stand-in for the exporter: take its finalizer off pods that leave and run no longer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()
        self._mirror = Reflector(client, PODS, label_selector=LABEL_ENDPOINT, on_change=self._changed)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Release pods as long as the context lasts."""
        task = asyncio.create_task(self._mirror.run())
        try:
            await self._mirror.synced.wait()
            yield
        finally:
            task.cancel()
            for pending in self._tasks:
                pending.cancel()
            await asyncio.gather(task, *self._tasks, return_exceptions=True)

    def _changed(self, change: Change) -> None:
        metadata, status = change.object["metadata"], change.object.get("status") or {}
        runs = any("running" in item.get("state", {}) for item in status.get("containerStatuses") or [])
        ended = status.get("phase") in ("Succeeded", "Failed")
        finalizers = metadata.get("finalizers") or []
        over = ended or ("deletionTimestamp" in metadata and not runs)
        if change.type == "set" and FINALIZER_LEDGER in finalizers and over:
            task = asyncio.create_task(self._release(metadata, finalizers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _release(self, metadata: Object, finalizers: list[str]) -> None:
        index = finalizers.index(FINALIZER_LEDGER)
        path = f"/metadata/finalizers/{index}"
        patch = [{"op": "test", "path": path, "value": FINALIZER_LEDGER}, {"op": "remove", "path": path}]
        with contextlib.suppress(NotFound, Conflict, Invalid):
            await self._client.patch(PODS, metadata["name"], metadata["namespace"], patch, kind="json")


async def prepare(client: Client, cluster: Cluster, folder: Path) -> None:
    """Give the operator the account and the rights that the chart gives it, and no others."""
    with contextlib.suppress(Conflict):
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        await client.apply(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()), "tests")
    for obj in chart_objects("operator/serviceaccount.yaml", "operator/rbac.yaml"):
        await client.apply(_KINDS[obj["kind"]], obj, "tests")
    token = await client.token("zerotide-operator", SYSTEM, seconds=7200)
    inside = yaml.safe_load(cluster.inside_kubeconfig.read_text())
    for user in inside["users"]:
        user["user"] = {"token": token}
    (folder / "kubeconfig").write_text(yaml.safe_dump(inside))
    (folder / "token").write_text(await client.token("zerotide-operator", SYSTEM, AUDIENCE_ACTIVATOR, seconds=7200))


def chart_objects(*templates: str) -> list[Object]:
    """Render templates of the chart."""
    command = [str(folder_of("helm") / "helm"), "template", "zerotide", str(ROOT / "charts/zerotide")]
    command += ["--namespace", SYSTEM, "--kube-version", "1.37.0"]
    for template in templates:
        command += ["--show-only", f"templates/{template}"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True)
    return [obj for obj in yaml.safe_load_all(rendered.stdout) if obj]
