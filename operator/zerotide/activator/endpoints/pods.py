"""What of a pod says where to send requests."""

from __future__ import annotations

from typing import Any, NamedTuple

from zerotide.activator.admission.naming import Name
from zerotide.activator.admission.profile import Profile
from zerotide.api.generation import Question, one_token
from zerotide.api.names import CONDITION_TOKEN, CONTAINER_MODEL, LABEL_ENDPOINT

Object = dict[str, Any]

_GATE = {"conditionType": CONDITION_TOKEN}
WITH_ADDRESS = "status.podIP!="
"""Selects pods that have an address: what comes before cannot be dialled, and need not be read."""


class Candidate(NamedTuple):
    """A pod that has an address and is neither leaving nor over; port and path as its own probe has them."""

    uid: str
    name: str
    address: str
    port: int | None
    path: str | None
    token: bool = False
    """Whether it counts as ready only once it generated a token."""

    def port_for(self, profile: Profile) -> int:
        """Return the port that it listens on."""
        return profile.port if profile.grpc else self.port or profile.port

    def path_for(self, profile: Profile) -> str:
        """Return the path that tells whether it can serve."""
        return self.path or profile.readiness_path

    def question_for(self, profile: Profile) -> Question | None:
        """Return what it is to be asked for a token, None where it need not give one."""
        return one_token(profile.engine, profile.model_name, counted=True) if self.token else None


def endpoint_of(pod: Object) -> Name | None:
    """Return the endpoint that a pod belongs to."""
    metadata = pod["metadata"]
    name = (metadata.get("labels") or {}).get(LABEL_ENDPOINT)
    return Name(metadata.get("namespace", ""), name) if name else None


def candidate_of(pod: Object) -> Candidate | None:
    """Return where a pod may be dialled, None where it may not (yet, or any more)."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    address = status.get("podIP")
    if not address or metadata.get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    probe = _probe(pod)
    port, path = probe.get("port"), probe.get("path")
    return Candidate(
        uid=metadata.get("uid", ""),
        name=metadata["name"],
        address=address,
        port=port if isinstance(port, int) else None,
        path=path if isinstance(path, str) and path.startswith("/") else None,
        token=_GATE in _gates(pod),
    )


def trim(pod: Object) -> Object:
    """Keep only what is read here: clusters have many pods."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    kept = ("name", "namespace", "uid", "labels", "deletionTimestamp", "resourceVersion")
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {
            "containers": [{"name": CONTAINER_MODEL, "readinessProbe": {"httpGet": _probe(pod)}}],
            **({"readinessGates": gates} if (gates := _gates(pod)) else {}),
        },
        "status": {key: status[key] for key in ("phase", "podIP") if key in status},
    }


def _gates(pod: Object) -> list[Object]:
    return (pod.get("spec") or {}).get("readinessGates") or []


def _probe(pod: Object) -> Object:
    for container in (pod.get("spec") or {}).get("containers") or ():
        if container.get("name") == CONTAINER_MODEL:
            return dict((container.get("readinessProbe") or {}).get("httpGet") or {})
    return {}
