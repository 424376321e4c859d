"""Put parts of the rendered chart into a cluster beside whatever is installed there: other names, one namespace."""

from __future__ import annotations

import copy
import json

from tests.chart.rendering import Object

PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}


def path(item: Object) -> str:
    """Return the URL path of an object's collection."""
    return PATHS[item["kind"]].format(namespace=item["metadata"].get("namespace", ""))


def isolated(objects: list[Object], prefix: str) -> list[Object]:
    """Return copies of what PATHS knows, of a chart rendered for the namespace `prefix`.

    Names outside that namespace are prefixed, and policies are bound to labelled namespaces only.
    A namespace takes part by the label `chart-test: <prefix>`. There, an endpoint named `probe` is refused in the
    words `<prefix>`: so a test learns that these policies, and not only those of an installed chart, hold by now.
    """
    renamed = []
    for item in copy.deepcopy([item for item in objects if item["kind"] in PATHS]):
        if "helm.sh/hook" in item["metadata"].get("annotations", {}):
            continue
        shared = item["metadata"].get("namespace") != prefix
        if shared:
            item["metadata"]["name"] = f"{prefix}-{item['metadata']['name']}"
        role = item.get("roleRef")
        if role and shared:
            role["name"] = f"{prefix}-{role['name']}"
        if item["kind"] == "ClusterRole":
            # Aggregating labels would change the roles of everybody.
            item["metadata"]["labels"] = {}
        if item["kind"] == "ValidatingAdmissionPolicyBinding":
            item["spec"]["policyName"] = f"{prefix}-{item['spec']['policyName']}"
            item["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": {"chart-test": prefix}}}
        if item["kind"] == "ValidatingAdmissionPolicy" and item["metadata"]["name"].endswith("zerotide-endpoints"):
            item["spec"]["validations"].append({"expression": "object.metadata.name != 'probe'", "message": prefix})
        renamed.append(item)
    assert json.dumps(renamed).count(prefix) >= 4
    return renamed
