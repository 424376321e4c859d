"""The PodDisruptionBudget of an endpoint that may have several replicas: they are evicted one at a time."""

from __future__ import annotations

from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.child import Child, Kind, child


def disruption_budget(endpoint: InferenceEndpoint) -> Child | None:
    """Return the budget, or None where there is never more than one replica: it would block every node drain."""
    scaling = endpoint.spec.scaling
    if max(scaling.max_replicas, scaling.pinned_replicas) <= 1:
        return None
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": names.selector(endpoint.metadata.name)},
    }
    return child(Kind.POD_DISRUPTION_BUDGET, endpoint, {"spec": spec})
