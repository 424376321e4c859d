"""What end-to-end tests use to talk to an installed Zerotide: kubectl, endpoints, keys, waiting on conditions."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zerotide.api import apikey
from zerotide.kube import Client, load_credentials

T = TypeVar("T")
Json = dict[str, Any]

TRIVIAL = "zerotide/trivial:dev"
SMOLLM2 = "zerotide/runtime-smollm2:dev"


MODULES = {"operator": "controller", "activator": "activator", "exporter": "exporter"}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # the process ended meanwhile


def kill_processes(pod: Json, word: str) -> bool:
    """Kill -9 the processes of a pod on this machine whose command line has a word; tell whether there were any."""
    killed = False
    for process in Path("/proc").iterdir():
        ours = process.name.isdigit() and pod["metadata"]["uid"] in _text(process / "cgroup")
        if ours and word in _text(process / "cmdline"):
            os.kill(int(process.name), signal.SIGKILL)
            killed = True
    return killed


class WaitTimedOut(AssertionError):
    """What a test waited for did not come; the message holds the last thing seen."""


def wait_until(what: str, look: Callable[[], T | None], timeout: float = 60.0, every: float = 0.1) -> T:
    """Look again and again until something true comes, and return it. Raises WaitTimedOut."""
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise WaitTimedOut(f"{what}: not within {timeout:.0f} s, last seen: {seen!r}")
        time.sleep(every)


@dataclass
class System:
    """One installed Zerotide, reached through a kubeconfig and a gateway address."""

    kubeconfig: Path
    gateway: str
    kubectl_path: str
    made: list[str] = field(default_factory=list)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return what it printed; with check, a failure is an error that shows stderr."""
        done = self.try_kubectl(*args, stdin=stdin)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return its result, whatever it is."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        command = [self.kubectl_path, *args]
        return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=120)

    def get(self, *args: str) -> Json:
        """Return `kubectl get … -o json`, or an empty dict when the object does not exist."""
        done = self.try_kubectl("get", *args, "-o", "json")
        if done.returncode != 0:
            assert "NotFound" in done.stderr or "not found" in done.stderr, done.stderr
            return {}
        parsed: Json = json.loads(done.stdout)
        return parsed

    def apply(self, obj: Json) -> None:
        """Apply one object."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(obj))

    def namespace(self) -> str:
        """Make a fresh namespace and remember it for the clean-up."""
        name = f"t-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        self.made.append(name)
        return name

    def endpoint(self, namespace: str, name: str, spec: Json) -> None:
        """Apply an InferenceEndpoint."""
        metadata = {"namespace": namespace, "name": name}
        self.apply(
            {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint", "metadata": metadata, "spec": spec}
        )

    def status(self, namespace: str, name: str) -> Json:
        """Return the endpoint's status."""
        status: Json = self.get("iep", name, "-n", namespace).get("status") or {}
        return status

    def wait_state(self, namespace: str, name: str, *states: str, timeout: float = 60.0) -> Json:
        """Wait until the endpoint is in one of the states and return its status."""

        def look() -> Json | None:
            status = self.status(namespace, name)
            return status if status.get("state") in states else None

        try:
            return wait_until(f"{namespace}/{name} in {states}", look, timeout)
        except WaitTimedOut as error:
            raise WaitTimedOut(f"{error}; status: {json.dumps(self.status(namespace, name))[:3000]}") from None

    def pods(self, namespace: str, name: str) -> list[Json]:
        """Return the endpoint's pods."""
        items: list[Json] = self.get("pods", "-n", namespace, "-l", f"zerotide.dev/endpoint={name}")["items"]
        return items

    def key(self, namespace: str, name: str, **spec: Any) -> str:
        """Make an API key object and return the key's text."""
        secret = secrets.token_bytes(apikey.SECRET_BYTES)
        text = apikey.format_key(name, secret)
        body = {"digest": apikey.digest(secret), "consumer": "team-a", **spec}
        metadata = {"namespace": namespace, "name": name}
        self.apply({"apiVersion": "zerotide.dev/v1alpha1", "kind": "APIKey", "metadata": metadata, "spec": body})
        return text

    def url(self, namespace: str, name: str, path: str = "") -> str:
        """Return where the endpoint answers, seen from this machine."""
        return f"{self.gateway}/endpoints/{namespace}/{name}{path}"

    def condition(self, namespace: str, name: str, kind: str) -> Json:
        """Return one condition of the endpoint, or an empty dict."""
        conditions = self.status(namespace, name).get("conditions") or []
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def report(self, path: str, token: str) -> Json:
        """Read a JSON document through the API server's service proxy, as the CLI does."""

        async def read() -> Json:
            async with Client(await load_credentials()) as client:
                return await client.request("GET", path, headers={"X-Zerotide-Token": token})

        os.environ["KUBECONFIG"] = str(self.kubeconfig)
        return asyncio.run(read())

    def kill(self, component: str) -> None:
        """Kill -9 one process of a component, so that it cannot say goodbye; its container starts again in place.

        On a cluster whose processes are not on this machine, its pod is deleted by force instead.
        """
        selector = f"app.kubernetes.io/component={component}"
        pods = self.get("pods", "-n", "zerotide-system", "-l", selector)["items"]
        if not any(kill_processes(pod, f"zerotide.{MODULES[component]}") for pod in pods):
            self.remove(pods[0])

    def kill_pod(self, pod: Json, word: str) -> None:
        """Kill -9 the processes of a pod whose command line has a word; its container starts again in place.

        Where they are not on this machine, the pod is deleted by force instead.
        """
        if not kill_processes(pod, word):
            self.remove(pod)

    def remove(self, pod: Json) -> None:
        """Delete a pod by force."""
        metadata = pod["metadata"]
        self.kubectl("delete", "pod", metadata["name"], "-n", metadata["namespace"], "--grace-period=0", "--force")

    def activators(self) -> list[Json]:
        """Return the activators' pods."""
        selector = "app.kubernetes.io/component=activator"
        items: list[Json] = self.get("pods", "-n", "zerotide-system", "-l", selector)["items"]
        return items

    def figure(self, metric: str, namespace: str) -> float:
        """Return a figure of the endpoints of a namespace, summed over all activators that answer."""
        total = 0.0
        for pod in self.activators():
            path = f"/api/v1/namespaces/zerotide-system/pods/{pod['metadata']['name']}:9090/proxy/metrics"
            lines = self.try_kubectl("get", "--raw", path).stdout.splitlines()
            wanted = (line for line in lines if line.startswith(f"{metric}{{") and f'namespace="{namespace}"' in line)
            total += sum(float(line.rsplit("} ", 1)[1].split(" ")[0]) for line in wanted)
        return total

    def clean(self) -> None:
        """Delete every namespace that tests made."""
        for name in self.made:
            self.try_kubectl("delete", "namespace", name, "--wait=false")
        self.made.clear()


def trivial(idle: str = "5s", env: dict[str, str] | None = None, **spec: Any) -> Json:
    """Return the spec of an endpoint whose engine starts in no time and gives canned answers."""
    variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
    base: Json = {
        "model": {"uri": "image:///trivial"},
        "runtime": {"engine": "custom", "image": TRIVIAL, "env": variables, "readiness": {"path": "/health"}},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "scaling": {"idle": {"timeout": idle}},
    }
    for key, value in spec.items():
        base[key] = {**base[key], **value} if isinstance(base.get(key), dict) and isinstance(value, dict) else value
    return base


def smollm2(idle: str = "10s", **spec: Any) -> Json:
    """Return the spec of an endpoint with a real model on the project's own runtime."""
    base: Json = {
        "model": {"uri": "image:///models/smollm2"},
        "runtime": {"engine": "zerotide", "image": SMOLLM2},
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "scaling": {"idle": {"timeout": idle}},
    }
    return {**base, **spec}


def chat(stream: bool = False, **more: Any) -> Json:
    """Return the body of a small chat request with a known greedy answer."""
    question = [{"role": "user", "content": "What is the capital of France?"}]
    return {"messages": question, "temperature": 0, "max_tokens": 16, "stream": stream, **more}
