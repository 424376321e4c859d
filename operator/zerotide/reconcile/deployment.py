"""The Deployment of an endpoint: its replicas, its template, and by which spec and rendering it was made."""

from __future__ import annotations

from typing import Any

from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.child import Child, Kind, Object, child

SURGE: Object = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
"""The old replica serves until the new one is ready."""
REPLACE: Object = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
"""The old replica makes room first: where none of them serves, or there is no room for two."""


def deployment(endpoint: InferenceEndpoint, template: Object, digest: str, replicas: int, strategy: Object) -> Child:
    """Return the Deployment; `digest` is that of the rendering that `template` came from."""
    spec: Object = {
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": names.selector(endpoint.metadata.name)},
        "strategy": strategy,
        "template": template,
    }
    made = child(Kind.DEPLOYMENT, endpoint, {"spec": spec})
    made.object["metadata"]["annotations"] = {names.ANNOTATION_RENDERED_DIGEST: digest}
    return made


def annotation(obj: Object | None, name: str) -> str:
    """Return an annotation of an object, or an empty string."""
    return str(((obj or {}).get("metadata", {}).get("annotations") or {}).get(name, ""))


def replicas_of(live: Object | None) -> int:
    """Return the replicas that a live Deployment asks for; 0 without one."""
    return int((live or {}).get("spec", {}).get("replicas", 0) or 0)


def refused(live: Object | None) -> str:
    """Return why the Deployment's pods are refused by the API server, or an empty string."""
    conditions: list[dict[str, Any]] = ((live or {}).get("status") or {}).get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason") or "refused")
    return ""
