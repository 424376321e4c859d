"""What the operator is told by its installation, as far as rendering needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from zerotide.api.egress import PUBLIC_ONLY, Egress
from zerotide.api.names import CLUSTER_DOMAIN, SERVICE_GATEWAY, SYSTEM_NAMESPACE


@dataclass(frozen=True, slots=True)
class Policy:
    """What endpoints may ask for; `images` None means that images are not restricted.

    An image entry is a whole reference, or a prefix that ends in `*`. Node paths are folders.
    """

    images: tuple[str, ...] | None = None
    node_paths: tuple[str, ...] = ()
    allow_open: bool = True
    egress: Egress = PUBLIC_ONLY


class ServiceType(StrEnum):
    """How the Service of an endpoint leads to the activators: by addresses of its own, or as a name of the gateway."""

    ENDPOINT_SLICE = "EndpointSlice"
    EXTERNAL_NAME = "ExternalName"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the installation: images by engine, policy, and where the activators are.

    `elastic` says that nodes are added on demand, so that no pod is ever hopeless for want of a node.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = Policy()
    system_namespace: str = SYSTEM_NAMESPACE
    elastic: bool = False
    service_type: ServiceType = ServiceType.ENDPOINT_SLICE
    cluster_domain: str = CLUSTER_DOMAIN

    @property
    def gateway(self) -> str:
        """Return the full name of the gateway's Service: what it stands for must not hang on who looks it up."""
        return f"{SERVICE_GATEWAY}.{self.system_namespace}.svc.{self.cluster_domain}"
