"""The EndpointSlice of an endpoint: the ready activators, so that every request goes through one."""

from __future__ import annotations

from collections.abc import Iterable

from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.child import Child, Kind, child

MAX_ADDRESSES = 1000
"""More does not fit into one slice."""


def endpoint_slice(endpoint: InferenceEndpoint, activators: Iterable[str], family: str = "IPv4") -> Child:
    """Return the slice for the addresses of the ready activators, in a stable order; `family` holds without any."""
    addresses = sorted(set(activators))[:MAX_ADDRESSES]
    if addresses:
        family = "IPv6" if any(":" in address for address in addresses) else "IPv4"
    body = {
        "addressType": family,
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}}
            for address in addresses
            if (":" in address) == (family == "IPv6")
        ],
        "ports": [{"name": names.PORT_NAME_HTTP, "port": names.PORT_GATEWAY, "protocol": "TCP"}],
    }
    labels = {
        names.LABEL_SERVICE_NAME: endpoint.metadata.name,
        names.LABEL_SLICE_MANAGED_BY: names.MANAGER_OPERATOR,
    }
    return child(Kind.ENDPOINT_SLICE, endpoint, body, labels)
