"""Names that more than one process must agree on: kinds, labels, annotations, ports, managers, audiences.

Every child object of an endpoint X is named X. Functions here build names; nothing here looks anything up.
"""

from __future__ import annotations

import re
from typing import Final

GROUP = "zerotide.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "zerotide.dev/v1alpha1"

KIND_ENDPOINT: Final = "InferenceEndpoint"
PLURAL_ENDPOINTS = "inferenceendpoints"
SHORT_ENDPOINT = "iep"
KIND_API_KEY: Final = "APIKey"
PLURAL_API_KEYS = "apikeys"
SHORT_API_KEY = "zkey"
KIND_BUDGET: Final = "Budget"
PLURAL_BUDGETS = "budgets"
SHORT_BUDGET = "zbud"
KIND_PRICE_BOOK: Final = "PriceBook"
PLURAL_PRICE_BOOKS = "pricebooks"
SHORT_PRICE_BOOK = "zbook"
KIND_ACCELERATOR_CLASS: Final = "AcceleratorClass"
PLURAL_ACCELERATOR_CLASSES = "acceleratorclasses"
SHORT_ACCELERATOR_CLASS = "zacc"
CATEGORY = "zerotide"

SYSTEM_NAMESPACE = "zerotide-system"
CLUSTER_DOMAIN = "cluster.local"
RELEASE = "zerotide"

# Labels on everything that is made.
LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_ENDPOINT = f"{GROUP}/endpoint"
LABEL_ACCELERATOR_CLASS = f"{GROUP}/accelerator-class"
ANNOTATION_ACCELERATOR_PART = f"{GROUP}/accelerator-part"
LABEL_SERVICE_NAME = "kubernetes.io/service-name"
LABEL_SLICE_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

# Annotations that people write: each new value asks for one wake or one sleep.
ANNOTATION_WAKE = f"{GROUP}/wake-requested-at"
ANNOTATION_SLEEP = f"{GROUP}/sleep-requested-at"
# Annotations that the operator writes on a Deployment: which spec, and which rendering of it, the pods run.
ANNOTATION_RENDERED_GENERATION = f"{GROUP}/rendered-generation"
ANNOTATION_RENDERED_DIGEST = f"{GROUP}/rendered-digest"

# Field managers of server-side apply; also the names of the ServiceAccounts.
MANAGER_OPERATOR = "zerotide-operator"
MANAGER_ACTIVATOR = "zerotide-activator"
MANAGER_EXPORTER = "zerotide-exporter"
MANAGER_CLI = "zerotide-cli"
MANAGER_WEBHOOKS = "zerotide-webhooks"
SERVICE_ACCOUNT_OPERATOR = MANAGER_OPERATOR
SERVICE_ACCOUNT_ACTIVATOR = MANAGER_ACTIVATOR
SERVICE_ACCOUNT_EXPORTER = MANAGER_EXPORTER
SERVICE_ACCOUNT_READER = "zerotide-reader"

COMPONENT_OPERATOR = "operator"
COMPONENT_ACTIVATOR = "activator"
COMPONENT_EXPORTER = "exporter"

SERVICE_GATEWAY = "zerotide-gateway"
SERVICE_EXPORTER = "zerotide-exporter"

AUDIENCE_ACTIVATOR = "zerotide-activator"
AUDIENCE_EXPORTER = "zerotide-exporter"

FINALIZER_LEDGER = "metering.zerotide.dev/ledger"
# A condition of a pod, and its readiness gate where the spec asks for a token: the engine generated one.
CONDITION_TOKEN = f"{GROUP}/token-generated"

CONTAINER_MODEL = "model"
PORT_NAME_HTTP = "http"
PORT_SERVICE = 80
PORT_GATEWAY = 8080
PORT_GATEWAY_TLS = 8443
PORT_ADMIN = 9090
PORT_COUNCIL = 9091
PORT_MODEL = 8000

RESOURCE_GPU = "nvidia.com/gpu"
# Whole names of the devices that are metered; billing/allocation.py finds them in pods.
DEVICE_RESOURCES = r"^(nvidia\.com/(gpu|gpu\.shared|mig-[a-z0-9.]{1,40})|amd\.com/gpu|habana\.ai/gaudi[0-9]?)$"

PATTERN_ENDPOINT_NAME = r"^[a-z]([-a-z0-9]{0,44}[a-z0-9])?$"
# Short enough for the gateway's name before it; checked by the chart's schema, too.
PATTERN_CLUSTER_DOMAIN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
MAX_CLUSTER_DOMAIN = 168
PATTERN_CLASS_NAME = r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"
PATTERN_KEY_NAME = r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$"


def is_endpoint_name(name: str) -> bool:
    """Tell whether an endpoint may have this name: at most 46 characters, fit for every child object."""
    return re.fullmatch(PATTERN_ENDPOINT_NAME.strip("^$"), name) is not None


def is_key_name(name: str) -> bool:
    """Tell whether an APIKey may have this name: at most 32 characters, none of them `_` or `.`."""
    return re.fullmatch(PATTERN_KEY_NAME.strip("^$"), name) is not None


def is_class_name(name: str) -> bool:
    """Tell whether an AcceleratorClass may have this name: at most 63 characters, so that it is a label's value."""
    return re.fullmatch(PATTERN_CLASS_NAME.strip("^$"), name) is not None


def is_cluster_domain(name: str) -> bool:
    """Tell whether a cluster's names may end so: at most 168 characters, so that the gateway has a name in it."""
    return len(name) <= MAX_CLUSTER_DOMAIN and re.fullmatch(PATTERN_CLUSTER_DOMAIN.strip("^$"), name) is not None


def labels(endpoint: str, *, model: str = "") -> dict[str, str]:
    """Return the labels of every object made for an endpoint; `model` is the engine where one runs in it."""
    return {
        LABEL_NAME: model or "inference-endpoint",
        LABEL_INSTANCE: endpoint,
        LABEL_MANAGED_BY: MANAGER_OPERATOR,
        LABEL_PART_OF: RELEASE,
        LABEL_ENDPOINT: endpoint,
    }


def selector(endpoint: str) -> dict[str, str]:
    """Return the labels that select the pods of an endpoint."""
    return {LABEL_ENDPOINT: endpoint}


def selector_text(endpoint: str) -> str:
    """Return the selector as the string that `/scale` and list calls take."""
    return f"{LABEL_ENDPOINT}={endpoint}"


def service_account_user(namespace: str, name: str) -> str:
    """Return the user name under which a ServiceAccount's token is authenticated."""
    return f"system:serviceaccount:{namespace}:{name}"
