"""What every cluster has besides its components: DNS, a default storage class, rights of the helpers, GPUs."""

from __future__ import annotations

from typing import Any

from e2e.cluster.kube import MERGE, Json, Kube
from e2e.cluster.layout import DNS_SERVICE_ADDRESS, NODE_ADDRESS

RBAC = "/apis/rbac.authorization.k8s.io/v1"
GPU = "nvidia.com/gpu"
PROVISIONER = "zerotide.dev/local-volumes"
STORAGE_CLASS = "local-path"
GPU_PRODUCT = "NVIDIA-H100-80GB-HBM3"


def _role(name: str, groups: list[str], resources: list[str], verbs: list[str]) -> tuple[str, Json]:
    rule = {"apiGroups": groups, "resources": resources, "verbs": verbs}
    metadata = {"name": name}
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": [rule]}
    return f"{RBAC}/clusterroles/{name}", body


def _binding(name: str, role: str, user: str) -> tuple[str, Json]:
    group = "rbac.authorization.k8s.io"
    body = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    return f"{RBAC}/clusterrolebindings/{name}", body


def _dns() -> list[tuple[str, Json]]:
    ports: list[dict[str, Any]] = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": DNS_SERVICE_ADDRESS, "ports": ports},
    }
    # CoreDNS is a process of the node, so its Service has no selector and its slice is written here.
    slice_labels = {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "local-cluster"}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": slice_labels},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
    }
    return [
        ("/api/v1/namespaces/kube-system/services/kube-dns", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns", endpoints),
    ]


def _storage_class() -> tuple[str, Json]:
    body = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    return f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}", body


def objects() -> list[tuple[str, Json]]:
    """List the objects of every cluster, as (path, body)."""
    read = ["list", "watch"]
    return [
        _role("system:coredns", [""], ["services", "pods", "namespaces"], read),
        _role("system:coredns-slices", ["discovery.k8s.io"], ["endpointslices"], read),
        _binding("system:coredns", "system:coredns", "system:coredns"),
        _binding("system:coredns-slices", "system:coredns-slices", "system:coredns"),
        _binding("system:local-volumes", "system:persistent-volume-provisioner", "system:local-volumes"),
        _role("system:forwarder", [""], ["services"], ["get"]),
        _binding("system:forwarder", "system:forwarder", "system:forwarder"),
        *_dns(),
        _storage_class(),
    ]


def apply_all(client: Kube) -> None:
    """Apply every object. Raises ApiError, OSError."""
    for path, body in objects():
        client.apply(path, body)


def advertise_gpus(client: Kube, node: str, count: int) -> None:
    """Let the node advertise GPUs, as a device plugin would; the kubelet keeps what it finds in the status."""
    found = {"nvidia.com/gpu.product": GPU_PRODUCT, "nvidia.com/gpu.count": str(count)}
    labels = found if count else dict.fromkeys(found)
    path = f"/api/v1/nodes/{node}"
    client.call("PATCH", path, {"metadata": {"labels": labels}}, MERGE)
    amount = {GPU: str(count) if count else None}
    client.call("PATCH", f"{path}/status", {"status": {"capacity": amount, "allocatable": amount}}, MERGE)
