"""The Service of an endpoint: an address without selector; its slice points at the activators, never at pods."""

from __future__ import annotations

from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.child import Child, Kind, child


def service(endpoint: InferenceEndpoint) -> Child:
    """Return the Service."""
    port = {
        "name": names.PORT_NAME_HTTP,
        "port": names.PORT_SERVICE,
        "protocol": "TCP",
        "targetPort": names.PORT_GATEWAY,
    }
    return child(Kind.SERVICE, endpoint, {"spec": {"type": "ClusterIP", "ports": [port]}})


def url(endpoint: InferenceEndpoint) -> str:
    """Return the address of the endpoint within the cluster."""
    return f"http://{endpoint.metadata.name}.{endpoint.metadata.namespace}.svc"
