"""The ServiceAccount of an endpoint's pods: it may do nothing, and its token is not mounted."""

from __future__ import annotations

from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.child import Child, Kind, child


def service_account(endpoint: InferenceEndpoint) -> Child | None:
    """Return the ServiceAccount, or None where the spec names another."""
    if endpoint.spec.runtime.service_account_name:
        return None
    return child(Kind.SERVICE_ACCOUNT, endpoint, {"automountServiceAccountToken": False})
