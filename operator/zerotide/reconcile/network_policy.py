"""The NetworkPolicy of an endpoint's pods: only activators come in; out goes only what the model needs.

Engines serve admin routes on the port they answer on, so nobody but an activator may reach it, and the operator where
it is to ask the engine for its load, or to ping it. Weights that are
local need no network at all; what a custom engine or a podTemplate needs is not known here, and is not limited.
"""

from __future__ import annotations

from zerotide.api import names
from zerotide.api.endpoint import Engine, InferenceEndpoint
from zerotide.reconcile.child import Child, Kind, Object, child
from zerotide.reconcile.source import source_of_model

_DNS: Object = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


def network_policy(endpoint: InferenceEndpoint, system_namespace: str) -> Child:
    """Return the NetworkPolicy for an installation in `system_namespace`."""
    components = [names.COMPONENT_ACTIVATOR]
    if endpoint.spec.scaling.calls_replicas:
        components.append(names.COMPONENT_OPERATOR)
    callers: list[Object] = [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": system_namespace}},
            "podSelector": {"matchLabels": {names.LABEL_COMPONENT: component}},
        }
        for component in components
    ]
    port = {"port": endpoint.spec.runtime.port, "protocol": "TCP"}
    spec: Object = {
        "podSelector": {"matchLabels": names.selector(endpoint.metadata.name)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": callers, "ports": [port]}],
    }
    if _offline(endpoint):
        spec["policyTypes"].append("Egress")
        spec["egress"] = [_DNS]
    return child(Kind.NETWORK_POLICY, endpoint, {"spec": spec})


def _offline(endpoint: InferenceEndpoint) -> bool:
    spec = endpoint.spec
    local = source_of_model(spec.model).local
    return local and spec.runtime.engine is not Engine.CUSTOM and spec.pod_template is None
