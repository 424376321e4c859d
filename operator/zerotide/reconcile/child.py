"""The objects that are made for an endpoint: their kinds, and the metadata that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.ownership import reference_to

Object = dict[str, Any]


class Kind(StrEnum):
    """Kinds of children, in the order in which they are made: pods need the ServiceAccount."""

    SERVICE_ACCOUNT = "ServiceAccount"
    NETWORK_POLICY = "NetworkPolicy"
    DEPLOYMENT = "Deployment"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    POD_DISRUPTION_BUDGET = "PodDisruptionBudget"

    @property
    def api_version(self) -> str:
        """Return the apiVersion of objects of this kind."""
        return _API_VERSIONS[self]


_API_VERSIONS: Mapping[Kind, str] = {
    Kind.SERVICE_ACCOUNT: "v1",
    Kind.NETWORK_POLICY: "networking.k8s.io/v1",
    Kind.DEPLOYMENT: "apps/v1",
    Kind.SERVICE: "v1",
    Kind.ENDPOINT_SLICE: "discovery.k8s.io/v1",
    Kind.POD_DISRUPTION_BUDGET: "policy/v1",
}


@dataclass(frozen=True, slots=True)
class Child:
    """One object to make or apply, complete."""

    kind: Kind
    object: Object


def child(
    kind: Kind, endpoint: InferenceEndpoint, body: Mapping[str, Any], labels: Mapping[str, str] | None = None
) -> Child:
    """Return a child with the endpoint's name, labels and owner reference around its body."""
    meta = endpoint.metadata
    metadata: Object = {
        "name": meta.name,
        "namespace": meta.namespace,
        "labels": {**names.labels(meta.name), **(labels or {})},
        "ownerReferences": [reference_to(meta.name, meta.uid)],
    }
    return Child(kind, {"apiVersion": kind.api_version, "kind": kind.value, "metadata": metadata, **body})
