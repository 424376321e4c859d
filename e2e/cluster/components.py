"""The processes of a cluster: their command lines, and what each must wait for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.layout import NODE_ADDRESS, POD_RANGE, SERVICE_RANGE, Layout


@dataclass(frozen=True)
class Component:
    """One process: its name (also its log's), its command, and the component that must answer before it starts."""

    name: str
    command: tuple[str, ...]
    after: str | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Binaries:
    """The folders that hold the tools."""

    etcd: Path
    kubernetes: Path
    containerd: Path
    coredns: Path


def components(layout: Layout, binaries: Binaries, python: str, gateway: int, api: int) -> list[Component]:
    """List the processes in the order they start; `gateway` and `api` are inherited listening sockets."""
    kubernetes = binaries.kubernetes
    sbin = {"PATH": f"{binaries.containerd}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    quick_collection = {"GOGC": "100"}
    config = layout.config
    return [
        Component("etcd", _etcd(layout, binaries.etcd)),
        Component(
            "containerd",
            (str(binaries.containerd / "containerd"), "--config", str(config / "containerd.toml")),
            environment=sbin,
        ),
        Component("kube-apiserver", _api_server(layout, kubernetes), after="etcd", environment=quick_collection),
        Component("forwarder", (python, "-m", "e2e.cluster.forward", layout.name, str(api), str(gateway))),
        Component("kubelet", _kubelet(layout, kubernetes), after="kube-apiserver", environment=sbin),
        Component("kube-controller-manager", _controller_manager(layout, kubernetes), after="kube-apiserver"),
        Component("kube-scheduler", _scheduler(layout, kubernetes), after="kube-apiserver"),
        Component(
            "kube-proxy",
            (str(kubernetes / "kube-proxy"), f"--config={config}/kube-proxy.yaml"),
            after="kube-apiserver",
            environment=sbin,
        ),
        Component(
            "coredns", (str(binaries.coredns / "coredns"), "-conf", str(config / "Corefile")), after="kube-apiserver"
        ),
        Component("volumes", (python, "-m", "e2e.cluster.volumes", layout.name), after="kube-apiserver"),
    ]


def _etcd(layout: Layout, folder: Path) -> tuple[str, ...]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return (
        str(folder / "etcd"),
        f"--name={layout.name}",
        f"--data-dir={layout.root}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={layout.name}={peer}",
        # The page cache outlives every process; only a power cut could lose a local test cluster.
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def _api_server(layout: Layout, folder: Path) -> tuple[str, ...]:
    pki = layout.pki
    return (
        str(folder / "kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE_ADDRESS}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        # The node's name is in no DNS: logs and exec reach it by address.
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        "--profiling=false",
    )


def _delegated(layout: Layout, component: str) -> tuple[str, ...]:
    config = layout.inside(component)
    kinds = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    # One of each runs: an election would only add seconds to a start.
    return (*(f"--{kind}={config}" for kind in kinds), "--leader-elect=false", "--bind-address=127.0.0.1")


def _controller_manager(layout: Layout, folder: Path) -> tuple[str, ...]:
    pki = layout.pki
    return (
        str(folder / "kube-controller-manager"),
        *_delegated(layout, "controller-manager"),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--cluster-cidr={POD_RANGE}",
        "--allocate-node-cidrs=false",
        # Its forty controllers ask for much at once when they start; the default budget makes them wait for seconds.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        # Autoscalers look every 15 s otherwise, and whoever tries one waits for several looks.
        "--horizontal-pod-autoscaler-sync-period=3s",
    )


def _scheduler(layout: Layout, folder: Path) -> tuple[str, ...]:
    return (str(folder / "kube-scheduler"), *_delegated(layout, "scheduler"))


def _kubelet(layout: Layout, folder: Path) -> tuple[str, ...]:
    return (
        str(folder / "kubelet"),
        f"--config={layout.config}/kubelet.yaml",
        f"--kubeconfig={layout.inside('kubelet')}",
        f"--root-dir={layout.root}/kubelet",
        f"--cert-dir={layout.root}/kubelet/pki",
        f"--hostname-override={layout.name}",
        f"--node-ip={NODE_ADDRESS}",
    )
