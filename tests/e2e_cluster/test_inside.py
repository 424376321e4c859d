"""A pod finds in the local cluster what it would find in any other."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from e2e.cluster import Cluster
from e2e.cluster.errors import ApiError
from e2e.cluster.kube import Kube
from e2e.images.build import build
from e2e.tools import folder_of
from tests.e2e_cluster import objects

PYTHON = "zerotide/operator:dev"


def inside(cluster: Cluster, *command: str) -> str:
    """Run a command inside the cluster's network and return its output."""
    process = cluster.run_inside(list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    return str(said)


def test_a_restricted_pod_runs_and_answers_by_service_name(loaded: Cluster, client: Kube, place: str) -> None:
    """Scheduling, the runtime, the pod network, service addresses and DNS work together."""
    objects.create(client, place, "pods", objects.pod("web"))
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}
    metadata = {"name": "web"}
    objects.create(
        client, place, "services", {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    )
    objects.phase(client, place, "web", "Running")
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{place}/endpointslices"
    objects.seen(client, slices, lambda item: any(e["conditions"]["ready"] for e in item.get("endpoints") or []))
    url = f"http://web.{place}.svc.cluster.local/"
    fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
    deadline = time.monotonic() + 10
    while True:  # kube-proxy writes its rules a moment after the slice, and tells nobody
        try:
            assert inside(loaded, "python3", "-c", fetch, url).strip() == "ok"
            break
        except AssertionError:
            if time.monotonic() > deadline:
                raise


def test_a_privileged_pod_is_refused_where_pods_must_be_restricted(client: Kube, place: str) -> None:
    """Pod security admission is on."""
    body = objects.pod("bad", securityContext={"privileged": True})
    with pytest.raises(ApiError, match="violates PodSecurity"):
        objects.create(client, place, "pods", body)


def test_gpus_are_counted_by_the_scheduler(client: Kube, place: str) -> None:
    """Two pods that want three of four GPUs: one runs, the other waits for the first to end."""
    for name in ("first", "second"):
        objects.create(client, place, "pods", objects.pod(name, resources={"limits": {"nvidia.com/gpu": "3"}}))
        if name == "first":
            objects.phase(client, place, name, "Running")

    def refused(pod: dict) -> bool:  # type: ignore[type-arg]
        conditions = pod["status"].get("conditions") or []
        return any(c["type"] == "PodScheduled" and "nvidia.com/gpu" in c.get("message", "") for c in conditions)

    waiting = objects.seen(client, f"/api/v1/namespaces/{place}/pods?fieldSelector=metadata.name=second", refused)
    assert waiting["status"]["phase"] == "Pending"
    client.delete(f"/api/v1/namespaces/{place}/pods/first")
    assert objects.phase(client, place, "second", "Running")["spec"]["nodeName"]


def test_a_claim_binds_and_a_restricted_pod_with_a_group_writes_to_it(
    loaded: Cluster, client: Kube, place: str
) -> None:
    """The default storage class gives real volumes, owned by the pod's fsGroup, and takes them back."""
    build(["operator"], [loaded])
    resources = {"requests": {"storage": "1Gi"}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": resources}
    metadata = {"name": "data"}
    objects.create(
        client,
        place,
        "persistentvolumeclaims",
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim},
    )
    write = "import os; open('/data/f', 'w').write('kept'); print(os.stat('/data').st_gid, os.getuid())"
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    body = objects.pod(
        "writer",
        PYTHON,
        args=["-c", write],
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
        volumes=[volume],
        podSecurity={"fsGroup": 4242},
        restartPolicy="Never",
    )
    objects.create(client, place, "pods", body)
    done = objects.phase(client, place, "writer", "Succeeded", "Failed")
    log = client.text(f"/api/v1/namespaces/{place}/pods/writer/log")
    assert (done["status"]["phase"], log.split()) == ("Succeeded", ["4242", "65532"]), log
    bound = client.call("GET", f"/api/v1/namespaces/{place}/persistentvolumeclaims/data")
    folder = loaded.state_dir / "volumes" / bound["spec"]["volumeName"]
    assert (folder / "f").read_text() == "kept"
    client.delete(f"/api/v1/namespaces/{place}/pods/writer")
    client.delete(f"/api/v1/namespaces/{place}/persistentvolumeclaims/data")
    deadline = time.monotonic() + 20
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not folder.exists()


def test_a_projected_token_is_good_for_its_audience_only(client: Kube, place: str) -> None:
    """The API server signs service accounts' tokens and reviews them by audience."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["zerotide"]}}
    path = f"/api/v1/namespaces/{place}/serviceaccounts/default/token"
    token = client.call("POST", path, request)["status"]["token"]

    def review(audience: str) -> bool:
        spec = {"token": token, "audiences": [audience]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        reviewed = client.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
        return bool(reviewed["status"].get("authenticated"))

    assert review("zerotide") and not review("another")


def test_memory_limits_are_real(client: Kube, place: str) -> None:
    """A container that takes more than its limit is killed, and says so."""
    limits = {"limits": {"memory": "32Mi"}}
    body = objects.pod("eater", env=[{"name": "EAT_MB", "value": "200"}], resources=limits, restartPolicy="Never")
    objects.create(client, place, "pods", body)
    failed = objects.phase(client, place, "eater", "Failed")
    assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"


def test_the_node_refuses_what_is_not_its_own(loaded: Cluster) -> None:
    """The node authorizer is on: a kubelet cannot read a namespace's secrets."""
    kubelet = Kube(loaded.state_dir / "config" / "kubelet.kubeconfig")
    kubelet._address = loaded.client()._address
    with pytest.raises(ApiError, match="forbidden") as refused:
        kubelet.call("GET", "/api/v1/namespaces/kube-system/secrets")
    assert refused.value.status == 403


def test_kubectl_works_from_outside(loaded: Cluster) -> None:
    """The API server is forwarded to 127.0.0.1, and the kubeconfig names it."""
    kubectl = str(folder_of("kubernetes") / "kubectl")
    command = [kubectl, "--kubeconfig", str(loaded.kubeconfig), "get", "nodes", "-o", "json"]
    nodes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["items"]
    assert [node["metadata"]["name"] for node in nodes] == [loaded.name]
    assert nodes[0]["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.2"


def test_the_gateway_is_forwarded_as_soon_as_its_service_exists(loaded: Cluster, client: Kube) -> None:
    """Before there is a gateway a caller is told so; afterwards it answers, from outside."""
    existing = client.get("/api/v1/namespaces/zerotide-system/services/zerotide-gateway")
    assert existing is None, "Zerotide is installed in the test cluster: use another one for this test"
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        urllib.request.urlopen(loaded.gateway_url, timeout=5)
    assert b"not installed" in refused.value.read()
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "zerotide-system"}}
    client.apply("/api/v1/namespaces/zerotide-system", body)
    objects.seen(client, "/api/v1/namespaces/zerotide-system/serviceaccounts", lambda account: True)
    try:
        objects.create(client, "zerotide-system", "pods", objects.pod("gateway"))
        ports = [{"name": "other", "port": 81, "targetPort": 9}, {"name": "http", "port": 80, "targetPort": 8000}]
        spec = {"selector": {"app": "gateway"}, "ports": ports}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "zerotide-gateway"}, "spec": spec}
        objects.create(client, "zerotide-system", "services", service)
        objects.phase(client, "zerotide-system", "gateway", "Running")
        assert _answer_of(loaded.gateway_url) == b"ok"
    finally:
        client.delete("/api/v1/namespaces/zerotide-system")


def _answer_of(url: str, patience: float = 15.0) -> bytes:
    deadline = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
