"""The Service of an endpoint: its name leads to the activators, never to pods.

It has no selector. Either it is an address whose slice points at the activators, or a second name of the gateway's
Service, which then answers on the same port: clients send the name that they called as Host, and that says which
endpoint they mean.
"""

from __future__ import annotations

from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.child import Child, Kind, Object, child
from zerotide.reconcile.config import Config, ServiceType


def service(endpoint: InferenceEndpoint, config: Config) -> Child:
    """Return the Service."""
    port: Object = {"name": names.PORT_NAME_HTTP, "port": names.PORT_SERVICE, "protocol": "TCP"}
    if config.service_type is ServiceType.EXTERNAL_NAME:
        # Nothing in Kubernetes reads the port, but some ingress controllers do, and take the target.
        port["targetPort"] = names.PORT_SERVICE
        spec: Object = {"type": "ExternalName", "externalName": config.gateway, "ports": [port]}
    else:
        port["targetPort"] = names.PORT_GATEWAY
        spec = {"type": "ClusterIP", "ports": [port]}
    return child(Kind.SERVICE, endpoint, {"spec": spec})


def url(endpoint: InferenceEndpoint) -> str:
    """Return the address of the endpoint within the cluster."""
    return f"http://{endpoint.metadata.name}.{endpoint.metadata.namespace}.svc"
