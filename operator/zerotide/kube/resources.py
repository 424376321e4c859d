"""The kinds that Zerotide reads or writes, and where the API server keeps them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

_PLAIN = re.compile(r"[A-Za-z0-9_.~:-]+")


@dataclass(frozen=True)
class Resource:
    """One kind of object at the API server; group is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Return the apiVersion that objects of this kind carry."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of an object, or of a collection when name is empty."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        # Nearly no part has anything to quote, and to look for it in this way costs a twentieth.
        if all(map(_PLAIN.fullmatch, parts)):
            return "/" + "/".join(parts)
        return "/" + "/".join(quote(part, safe=":/" if part == subresource else ":") for part in parts)

    def path_of(self, obj: dict[str, Any], subresource: str = "") -> str:
        """Return the URL path of an object from its own metadata."""
        metadata = obj["metadata"]
        return self.path(metadata.get("namespace"), metadata["name"], subresource)


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
EVENTS = Resource("", "v1", "events", "Event")
SERVICES = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
PDBS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
SELF_SUBJECT_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
INFERENCE_ENDPOINTS = Resource("zerotide.dev", "v1alpha1", "inferenceendpoints", "InferenceEndpoint")
API_KEYS = Resource("zerotide.dev", "v1alpha1", "apikeys", "APIKey")
BUDGETS = Resource("zerotide.dev", "v1alpha1", "budgets", "Budget")
PRICE_BOOKS = Resource("zerotide.dev", "v1alpha1", "pricebooks", "PriceBook", namespaced=False)
ACCELERATOR_CLASSES = Resource("zerotide.dev", "v1alpha1", "acceleratorclasses", "AcceleratorClass", namespaced=False)
