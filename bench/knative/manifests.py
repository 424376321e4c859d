"""What Knative Serving consists of in a cluster, read from the manifests in its modules: as published, but for images.

Left out are the HorizontalPodAutoscalers, for which a cluster needs a metrics server, and an ingress: requests go to
the activator, as an ingress sends those for a revision at zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
SOURCE = "ko://knative.dev/serving/cmd/"
# Images that are in the cluster already are not looked up in a registry, which would fail without one.
LOCAL_REGISTRIES = "localhost,index.docker.io"
BESIDE = {
    "knative.dev/networking": ("certificate", "domain-claim", "ingress", "serverlessservice", "config-network"),
    "knative.dev/caching": ("image",),
}


def image(program: str, version: str) -> str:
    """Return the name of a program's image."""
    return f"localhost/knative/{program}:{version}"


def kinds(core: Path, beside: Iterable[Path]) -> list[Json]:
    """Return the namespace and the custom resources: what must be there before the rest."""
    files = [core / "100-namespace.yaml", *sorted((core / "300-resources").glob("*.yaml")), *beside]
    return [each for each in _read(files) if each["kind"] in ("Namespace", "CustomResourceDefinition")]


def parts(core: Path, beside: Iterable[Path], version: str) -> list[Json]:
    """Return everything else, with images by their names in the cluster."""
    # Objects of Knative's own kinds come before the webhooks, which refuse them until their process runs.
    files = [core / "200-serviceaccount.yaml", core / "300-knativecertificate.yaml", core / "999-cache.yaml", *beside]
    for folder in ("200-roles", "configmaps", "deployments", "webhooks"):
        files += sorted((core / folder).glob("*.yaml"))
    left_out = ("CustomResourceDefinition", "HorizontalPodAutoscaler")
    wanted = [each for each in _read(files) if each["kind"] not in left_out]
    return [_settled(_with_images(each, version), version) for each in wanted]


def service(namespace: str, name: str, pod_image: str, token: bool) -> Json:
    """Return a Knative Service of at most one replica without a limit, that sleeps as soon as Knative can let it."""
    annotations = {
        "autoscaling.knative.dev/max-scale": "1",
        "autoscaling.knative.dev/window": "6s",
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
    }
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    environment = [{"name": "SHUTDOWN_MS", "value": "0"}]
    ports = [{"containerPort": 8000}]
    container = {"image": pod_image, "ports": ports, "env": environment, "resources": resources}
    spec: Json = {"containers": [container], "containerConcurrency": 0}
    if not token:
        spec["automountServiceAccountToken"] = False
    template = {"metadata": {"annotations": annotations}, "spec": spec}
    metadata = {"namespace": namespace, "name": name}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"template": template},
    }


def _read(files: Iterable[Path]) -> Iterator[Json]:
    for file in files:
        yield from (each for each in yaml.safe_load_all(file.read_text()) if each)


def _settled(each: Json, version: str) -> Json:
    """Set what who runs a cluster has to set; everything else keeps Knative's defaults."""
    own = {
        "config-deployment": {
            "queue-sidecar-image": image("queue", version),
            "registries-skipping-tag-resolving": LOCAL_REGISTRIES,
        },
        # It only bounds how soon a revision sleeps again; a wake is the same.
        "config-autoscaler": {"scale-to-zero-grace-period": "1s"},
    }
    if each["kind"] != "ConfigMap" or each["metadata"]["name"] not in own:
        return each
    return {**each, "data": {**each["data"], **own[each["metadata"]["name"]]}}


def _with_images(value: Any, version: str) -> Any:
    """Replace every reference to a program's source by its image."""
    if isinstance(value, dict):
        return {key: _with_images(each, version) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_images(each, version) for each in value]
    if isinstance(value, str) and value.startswith(SOURCE):
        return image(value.removeprefix(SOURCE), version)
    return value
