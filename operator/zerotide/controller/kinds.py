"""Where each kind of child is kept at the API server."""

from __future__ import annotations

from collections.abc import Mapping

from zerotide.kube import Resource
from zerotide.kube import resources as kept
from zerotide.reconcile.child import Kind

RESOURCES: Mapping[Kind, Resource] = {
    Kind.SERVICE_ACCOUNT: kept.SERVICE_ACCOUNTS,
    Kind.NETWORK_POLICY: kept.NETWORK_POLICIES,
    Kind.DEPLOYMENT: kept.DEPLOYMENTS,
    Kind.SERVICE: kept.SERVICES,
    Kind.ENDPOINT_SLICE: kept.ENDPOINT_SLICES,
    Kind.POD_DISRUPTION_BUDGET: kept.PDBS,
}
