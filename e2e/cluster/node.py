"""The first process of a cluster: it prepares the node's namespaces, starts the components and reaps the dead.

It runs as process 1 of its own PID namespace, started by `Cluster.up` through unshare. When it is killed, the
kernel ends everything below it. It starts a component again when it ends, a second later.
"""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

from e2e.cluster.components import Binaries, Component, components
from e2e.cluster.layout import NODE_ADDRESS, SERVICE_RANGE, Layout
from e2e.cluster.shell import run

RESTART_DELAY = 1.0
POLL = 0.05


def prepare_mounts(layout: Layout) -> None:
    """Give the node folders of its own where the tools have fixed paths, and let volumes propagate into pods."""
    run("mount", "--make-rshared", "/")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in ("lock", "netns"):
        Path("/run", folder).mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/log")


def prepare_network() -> None:
    """Bring up the node's addresses; nothing here leads out of the machine."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "node0", "type", "bridge")
    run("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", "node0")
    run("ip", "link", "set", "node0", "up")
    # A service's address is translated after routing, so it needs a route to be sent at all.
    run("ip", "route", "add", SERVICE_RANGE, "dev", "node0")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged.exists():
        bridged.write_text("1")


def etcd_answers() -> bool:
    """Say whether etcd serves reads."""
    connection = http.client.HTTPConnection("127.0.0.1", 2379, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def api_server_probe(layout: Layout) -> Callable[[], bool]:
    """Return a check of whether the API server is ready."""
    from e2e.cluster.errors import ClusterError
    from e2e.cluster.kube import Kube

    client = Kube(layout.inside_kubeconfig, timeout=2)

    def ready() -> bool:
        try:
            return client.text("/readyz") == "ok"
        except (OSError, ssl.SSLError, http.client.HTTPException, ClusterError):
            return False

    return ready


class Supervisor:
    """Start components when what they wait for answers; start them again when they end."""

    def __init__(self, layout: Layout, wanted: list[Component], probes: dict[str, Callable[[], bool]]) -> None:
        self._layout = layout
        self._waiting = list(wanted)
        self._probes = probes
        self._ready: set[str] = set()
        self._running: dict[int, Component] = {}
        self._due: list[tuple[float, Component]] = []

    def run(self) -> None:
        """Supervise for ever."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        while True:
            self._start_ready()
            self._start_due()
            signal.sigtimedwait({signal.SIGCHLD}, POLL if self._waiting or self._due else 60.0)
            self._reap()

    def _start_ready(self) -> None:
        needed = {component.after for component in self._waiting if component.after} - self._ready
        self._ready |= {name for name in needed if self._probes[name]()}
        for component in list(self._waiting):
            if component.after is None or component.after in self._ready:
                self._waiting.remove(component)
                self._start(component)

    def _start_due(self) -> None:
        now = time.monotonic()
        for due in [entry for entry in self._due if entry[0] <= now]:
            self._due.remove(due)
            self._start(due[1])

    def _start(self, component: Component) -> None:
        log = os.open(self._layout.logs / f"{component.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        environment = {"PATH": os.environ["PATH"], "HOME": "/root", **component.environment}
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        command = list(component.command)
        pid = os.posix_spawn(command[0], command, environment, file_actions=actions, setsigmask=[], setpgroup=0)
        os.close(log)
        os.close(null)
        self._running[pid] = component
        print(f"{component.name}: started as {pid}", flush=True)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (component := self._running.pop(pid, None)) is not None:
                print(f"{component.name}: ended with {os.waitstatus_to_exitcode(status)}", flush=True)
                self._due.append((time.monotonic() + RESTART_DELAY, component))


def main(name: str, api_socket: int, gateway_socket: int, binaries: Binaries) -> None:
    """Be the node: prepare, then supervise."""
    layout = Layout.of(name)
    prepare_mounts(layout)
    prepare_network()
    for inherited in (api_socket, gateway_socket):
        os.set_inheritable(inherited, True)
    wanted = components(layout, binaries, sys.executable, gateway=gateway_socket, api=api_socket)
    Supervisor(layout, wanted, {"etcd": etcd_answers, "kube-apiserver": api_server_probe(layout)}).run()


if __name__ == "__main__":
    folders = Binaries(*(Path(folder) for folder in sys.argv[4:8]))
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), folders)
