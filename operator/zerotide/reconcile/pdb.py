"""The PodDisruptionBudget of an endpoint: several replicas are evicted one at a time, one that loads not at all.

Autoscalers that pack pods onto fewer nodes evict what they move, and so heed budgets. A model that loads is moved for
nothing: it would begin anew on the next node, which is as likely to be packed. Short starts need no protection, and
an endpoint with one replica has a budget for that time only: it would block every node drain.
"""

from __future__ import annotations

from collections.abc import Iterable

from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND
from zerotide.reconcile.child import Child, Kind, Object, child
from zerotide.reconcile.pods import Pod, Stage

LONG_US = 10 * SECOND
"""How long a replica has its node before its start is worth protecting."""


def protected_from(pods: Iterable[Pod], hopeless: bool) -> int | None:
    """Return from when on a start is protected, None where none is under way that may succeed."""
    loading = [pod.scheduled_us for pod in pods if pod.stage in (Stage.SCHEDULED, Stage.RUNNING) and not pod.served]
    times = [since + LONG_US for since in loading if since is not None]
    return min(times, default=None) if not hopeless else None


def disruption_budget(endpoint: InferenceEndpoint, protected: bool) -> Child | None:
    """Return the budget, None where none is needed; while `protected`, nothing of the endpoint is evicted."""
    scaling = endpoint.spec.scaling
    if not protected and max(scaling.max_replicas, scaling.pinned_replicas) <= 1:
        return None
    # A pod that is not ready yet is evicted in spite of any budget, unless the policy says otherwise.
    spec: Object = {
        "maxUnavailable": 0 if protected else 1,
        "unhealthyPodEvictionPolicy": "IfHealthyBudget" if protected else "AlwaysAllow",
        "selector": {"matchLabels": names.selector(endpoint.metadata.name)},
    }
    return child(Kind.POD_DISRUPTION_BUDGET, endpoint, {"spec": spec})
