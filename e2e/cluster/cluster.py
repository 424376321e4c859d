"""A cluster as a whole: bring it up, look at it, use it, take it down."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e.cluster import addons, cgroups, pki, render
from e2e.cluster.errors import ApiError, ClusterError, CommandFailed, NotRoot, NotRunning, StartFailed
from e2e.cluster.inside import answers
from e2e.cluster.kube import Json, Kube
from e2e.cluster.layout import NODE_ADDRESS, Layout, Record, listen, process_start
from e2e.cluster.preflight import check_inotify
from e2e.cluster.shell import run
from e2e.cluster.timing import Stages
from e2e.images.archive import ensure_pause
from e2e.images.load import push_into
from e2e.setup import debian
from e2e.tools import folder_of
from e2e.tools.build import ensure

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("etcd", "kubernetes", "containerd", "coredns")
DEFAULT_NAME = "zerotide"
# Seconds that a step of the start may take before it counts as failed.
PATIENCE = 60.0
DNS_READY = (NODE_ADDRESS, 8181)


class Cluster:
    """One local cluster, by name. Nothing happens before `up`."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        self.name = name
        self._layout = Layout.of(name)

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig for use outside the cluster's network."""
        return self._layout.kubeconfig

    @property
    def inside_kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig for use inside the cluster's network."""
        return self._layout.inside_kubeconfig

    @property
    def logs_dir(self) -> Path:
        """Return the folder with one log per component."""
        return self._layout.logs

    @property
    def state_dir(self) -> Path:
        """Return the folder that holds everything of this cluster."""
        return self._layout.root

    @property
    def record(self) -> Record:
        """Return the facts of the running cluster. Raises NotRunning."""
        record = Record.load(self._layout)
        if record is None or not record.alive:
            raise NotRunning(
                f"cluster {self.name!r} is not running; start it: python3 -m e2e.cluster up --name {self.name}"
            )
        return record

    @property
    def gateway_url(self) -> str:
        """Return where Zerotide's gateway answers from outside. Raises NotRunning."""
        return f"http://127.0.0.1:{self.record.gateway_port}"

    @property
    def api_url(self) -> str:
        """Return where the API server answers from outside. Raises NotRunning."""
        return f"https://127.0.0.1:{self.record.api_port}"

    @property
    def running(self) -> bool:
        """Say whether the cluster's processes run."""
        record = Record.load(self._layout)
        return record is not None and record.alive

    def client(self, timeout: float = 30.0) -> Kube:
        """Return a client with all rights, for use outside."""
        return Kube(self.kubeconfig, timeout)

    def up(self, gpus: int = 4, say: Any = print) -> Stages:
        """Start the cluster unless it runs, and wait until a pod could run; return where the time went.

        Programs and packages that are missing are installed first. Raises ClusterError, ToolError, PackagesMissing.
        """
        require_root()
        stages = Stages(say)
        with self._locked():
            record = Record.load(self._layout)
            if record is None or not record.alive:
                debian.ensure(debian.CLUSTER, say)
                folders = ensure(list(TOOLS), say)
                check_inotify()
                record = self._start(record, gpus, list(folders.values()), stages)
            self._settle(replace(record, gpus=gpus), stages)
        return stages

    def _start(self, old: Record | None, gpus: int, folders: list[Path], stages: Stages) -> Record:
        layout = self._layout
        self._sweep()
        for folder in (layout.logs, layout.config, layout.run, layout.volumes):
            folder.mkdir(parents=True, exist_ok=True)
        pki.make(layout)
        render.write(layout)
        with _listen_again(old.api_port if old else 0) as api, _listen_again(old.gateway_port if old else 0) as gateway:
            ports = (api.getsockname()[1], gateway.getsockname()[1])
            pki.write_kubeconfigs(layout, ports[0])
            cgroups.make(layout.cgroup)
            stages.done("certificates and configuration")
            pid = self._spawn(api.fileno(), gateway.fileno(), folders)
        since = datetime.now(UTC).isoformat()
        record = Record(*ports, gpus=gpus, pid=pid, started=process_start(pid), since=since)
        record.save(layout)
        return record

    def _spawn(self, api: int, gateway: int, folders: list[Path]) -> int:
        namespaces = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
        node = (sys.executable, "-m", "e2e.cluster.node", self.name, str(api), str(gateway), *map(str, folders))
        with (self.logs_dir / "node.log").open("ab") as log:
            process = subprocess.Popen(
                ("unshare", *namespaces, "--", *node),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(api, gateway),
                start_new_session=True,
            )
        # The tree outlives this process on purpose.
        process.returncode = 0
        return process.pid

    def _settle(self, record: Record, stages: Stages) -> None:
        """Wait for what makes the cluster usable, and put in place what every cluster has."""
        client = self.client(timeout=5)
        self._until("the API server answers", "kube-apiserver", lambda: client.text("/readyz") == "ok")
        stages.done("API server ready")
        self._until("its objects are in place", "kube-apiserver", lambda: addons.apply_all(client))
        self._until("containerd answers", "containerd", lambda: ensure_pause(self))
        self._until("the node reports", "kubelet", lambda: self._reported(client, record.since))
        stages.done("node registered")
        node = self._node(client) or {}
        if int(node["status"]["capacity"].get(addons.GPU, 0)) != record.gpus:
            addons.advertise_gpus(client, self.name, record.gpus)
        record.save(self._layout)
        self._until("the node is Ready", "kubelet", lambda: is_ready(self._node(client) or {}))
        stages.done("node Ready")
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._until("pods may be made", "kube-controller-manager", lambda: client.get(account) is not None)
        self._until("DNS answers", "coredns", lambda: answers(record.pid, DNS_READY))
        stages.done("service accounts and DNS")

    def _reported(self, client: Kube, since: str) -> bool:
        """Say whether this start's kubelet, not that of an earlier one, keeps the node alive."""
        node = self._node(client)
        if node is None or node["metadata"]["creationTimestamp"][:19] >= since[:19]:
            return node is not None
        # A node from before: its kubelet renews the lease as soon as it starts.
        lease = client.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{self.name}")
        return lease is None or lease["spec"]["renewTime"] > since

    def _node(self, client: Kube) -> Json | None:
        return client.get(f"/api/v1/nodes/{self.name}")

    def _until(self, what: str, component: str, check: Callable[[], object]) -> None:
        """Try until a check neither fails nor says False. Raises StartFailed with the component's log."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if check() is not False:
                    return
            except (OSError, http.client.HTTPException, ApiError, CommandFailed) as error:
                last = str(error)
            else:
                last = "not yet"
            if not self.running:
                raise StartFailed(
                    f"cluster {self.name!r} ended while starting; see {self.logs_dir}/node.log\n{self.tail('node')}"
                )
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"waited {PATIENCE:.0f} s until {what}: {last}; see {self.logs_dir}\n{self.tail(component)}"
                )
            time.sleep(0.05)

    def tail(self, component: str, lines: int = 12) -> str:
        """Return the end of a component's log."""
        try:
            return "\n".join((self.logs_dir / f"{component}.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def down(self) -> None:
        """Remove every process, mount, interface, control group and file of the cluster. Raises ClusterError."""
        require_root()
        with self._locked():
            record = Record.load(self._layout)
            if record is not None and record.alive:
                kill(record.pid)
            self._sweep()
            if self._layout.root.exists():
                shutil.rmtree(self._layout.root)
            self._layout.lock.unlink()
        with contextlib.suppress(OSError):
            self._layout.root.parent.rmdir()

    def _sweep(self) -> None:
        """Remove what a killed cluster leaves behind; its disks stay, as a reboot keeps them."""
        cgroups.remove(self._layout.cgroup)
        shutil.rmtree(self._layout.run, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time change this cluster."""
        path = self._layout.lock
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # `down` removes the file: whoever waited for that one must take the new one.
                if not path.exists() or path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                    continue
                yield
                return

    def run_inside(self, command: list[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command inside the cluster's network, with its DNS and KUBECONFIG. Raises NotRunning."""
        environment = {**(options.pop("env", None) or os.environ), "KUBECONFIG": str(self.inside_kubeconfig)}
        return subprocess.Popen(self.inside_command(command), env=environment, **options)

    def inside_command(self, command: list[str]) -> list[str]:
        """Return the command line that runs a command inside; it keeps one process number throughout."""
        network = f"--net=/proc/{self.record.pid}/ns/net"
        names = f'mount --bind "{self._layout.config}/resolv.conf" /etc/resolv.conf && exec "$@"'
        return ["nsenter", network, "--", "unshare", "--mount", "--", "sh", "-c", names, "sh", *command]

    def load_image(self, source: Path | str) -> None:
        """Import an image archive (OCI or Docker, a file), or an image of the project's own storage by name.

        Raises CommandFailed, NotRunning.
        """
        _ = self.record
        if Path(source).is_file():
            run(*self.ctr("images", "import", "--digests=false", str(source)))
        else:
            push_into(self, str(source))

    def ctr(self, *arguments: str) -> list[str]:
        """Return a ctr command line for the cluster's images."""
        program = str(folder_of("containerd") / "ctr")
        return [program, "--address", str(self._layout.containerd_socket), "--namespace", "k8s.io", *arguments]


def _listen_again(port: int, patience: float = 5.0) -> socket.socket:
    """Take the port of an earlier start, which its dying processes may hold for a moment; else any."""
    deadline = time.monotonic() + patience
    while port and time.monotonic() < deadline:
        try:
            return listen(port)
        except ClusterError:
            time.sleep(0.02)
    return listen(0)


def require_root() -> None:
    """Raise NotRoot unless this process is root."""
    if os.geteuid() != 0:
        raise NotRoot(
            "the local cluster needs root (namespaces, mounts); use sudo, or set KUBECONFIG to a cluster you have"
        )


def kill(pid: int, patience: float = 10.0) -> None:
    """Kill a cluster's first process and wait until its whole tree is gone. Raises ClusterError."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    # The child is process 1 of the tree's own namespace: it is gone when everything below it is.
    tree = [pid, *map(int, children.read_text().split())] if children.exists() else [pid]
    with contextlib.ExitStack() as stack:
        watched, left = select.poll(), 0
        for process in tree:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(process)
                stack.callback(os.close, descriptor)
                watched.register(descriptor, select.POLLIN)
                left += 1
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        deadline = time.monotonic() + patience
        while left and (remaining := deadline - time.monotonic()) > 0:
            for descriptor, _ in watched.poll(remaining * 1000):
                watched.unregister(descriptor)
                left -= 1
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    if left:
        raise ClusterError(f"processes {tree} were killed and did not end within {patience:.0f} s")


def is_ready(node: Json) -> bool:
    """Say whether a node is Ready and takes pods."""
    conditions = {entry["type"]: entry["status"] for entry in node.get("status", {}).get("conditions") or []}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")
