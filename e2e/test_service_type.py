"""A pod calls endpoints by name, whichever way the chart has the names lead to the gateway, and while that changes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from e2e.harness import Json, System, chat, trivial, wait_until
from e2e.tools import folder_of
from e2e.up.install import NAMESPACE, RELEASE
from e2e.up.target import ROOT

CLIENT = "client"
ASK = """
import json, socket, sys, urllib.error, urllib.request

host, key, body = sys.argv[1:]
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
request = urllib.request.Request(f"http://{host}/v1/chat/completions", body.encode(), headers)
try:
    address = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)[0][4][0]
    with urllib.request.urlopen(request, timeout=60) as answer:
        status = answer.status
except urllib.error.HTTPError as error:
    status = error.code
except OSError as error:
    address, status = repr(error), 0
print(json.dumps([status, address]))
"""


class Answer(NamedTuple):
    """An answer's status, 0 for none, and the address that the name led to."""

    status: int
    address: str


class Caller:
    """A pod in a namespace that calls endpoints by the names that the cluster's DNS has for them."""

    def __init__(self, system: System, namespace: str) -> None:
        self.system, self.namespace = system, namespace
        self._key = system.key(namespace, "k")
        container: Json = {"name": CLIENT, "image": "zerotide/operator:dev", "imagePullPolicy": "Never"}
        container["command"] = ["python3", "-c", "import time; time.sleep(3600)"]
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
        metadata = {"name": CLIENT, "namespace": namespace}
        system.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        system.kubectl("wait", "pod", CLIENT, "-n", namespace, "--for=condition=Ready", "--timeout=60s")

    def ask(self, name: str) -> Answer:
        """Send one chat request."""
        command = ["python3", "-c", ASK, f"{name}.{self.namespace}.svc", self._key, json.dumps(chat())]
        return Answer(*json.loads(self.system.kubectl("exec", CLIENT, "-n", self.namespace, "--", *command)))


def service(system: System, namespace: str, name: str) -> Json:
    """Return the spec of a Service."""
    spec: Json = system.get("service", name, "-n", namespace)["spec"]
    return spec


@contextmanager
def installed_with(system: System, type_: str) -> Iterator[None]:
    """Have the shared installation use a type of Services for as long as the context lasts."""
    _upgrade(system, type_)
    try:
        yield
    finally:
        _upgrade(system, "EndpointSlice")


def _upgrade(system: System, type_: str) -> None:
    command = [str(folder_of("helm") / "helm"), "upgrade", RELEASE, str(ROOT / "charts/zerotide"), "-n", NAMESPACE]
    command += ["--reuse-values", "--set", f"service.type={type_}", "--wait", "--timeout", "5m"]
    environment = {**os.environ, "KUBECONFIG": str(system.kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=330)
    assert done.returncode == 0, done.stderr


def test_a_name_leads_to_its_endpoint_whatever_the_type(system: System) -> None:
    """Awake ones go on, others wake by their name, before, between and after two changes of the type."""
    namespace = system.namespace()
    caller = Caller(system, namespace)
    system.endpoint(namespace, "kept", trivial(idle="1h"))
    system.wait_state(namespace, "kept", "Asleep")
    gateway = service(system, NAMESPACE, "zerotide-gateway")["clusterIP"]
    own = service(system, namespace, "kept")["clusterIP"]
    assert caller.ask("kept") == (200, own)
    (pod,) = system.pods(namespace, "kept")

    def leads(name: str, address: str) -> bool:
        # What names led to is remembered for some seconds.
        return caller.ask(name) == (200, address)

    with installed_with(system, "ExternalName"):
        wait_until("it is a name", lambda: service(system, namespace, "kept")["type"] == "ExternalName")
        wait_until("it leads to the gateway", lambda: leads("kept", gateway))
        wait_until("its slice is gone", lambda: not system.get("endpointslice", "kept", "-n", namespace))
        system.endpoint(namespace, "fresh", trivial(idle="1h"))
        system.wait_state(namespace, "fresh", "Asleep")
        assert caller.ask("fresh") == (200, gateway), "a request by the name woke it"
        assert system.status(namespace, "fresh")["url"] == f"http://fresh.{namespace}.svc"

    def addressed(name: str) -> bool:
        address = service(system, namespace, name).get("clusterIP")
        return address is not None and leads(name, address)

    wait_until("one that lived on has an address of its own", lambda: addressed("kept"))
    wait_until("one that never had any has one", lambda: addressed("fresh"))
    assert [each["metadata"]["uid"] for each in system.pods(namespace, "kept")] == [pod["metadata"]["uid"]]
