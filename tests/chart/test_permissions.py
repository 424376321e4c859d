"""What each process may do: written down here, equal to the chart, and true on a real API server.

Whoever changes a role changes this table, and says in the change why the process needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from tests.chart.conftest import Place
from tests.chart.rendering import Object, find, render
from zerotide.kube import Client, Identity, NotFound, Resource, allowed

READ = {"get", "list", "watch"}
OWN = READ | {"create", "patch", "delete"}
OPERATOR = {
    "zerotide.dev/inferenceendpoints": READ,
    "zerotide.dev/inferenceendpoints/status": {"patch"},
    "zerotide.dev/inferenceendpoints/finalizers": {"update"},
    "apps/deployments": OWN,
    "/services": OWN,
    "/serviceaccounts": OWN,
    "discovery.k8s.io/endpointslices": OWN,
    "policy/poddisruptionbudgets": OWN,
    "networking.k8s.io/networkpolicies": OWN,
    "apps/replicasets": READ,
    "/pods": READ,
    "/nodes": READ,
    "/persistentvolumeclaims": READ,
    "/events": READ | {"create", "patch"},
}
ACTIVATOR = {
    "zerotide.dev/inferenceendpoints": READ,
    "zerotide.dev/apikeys": READ,
    "zerotide.dev/inferenceendpoints/status": {"patch"},
    "/pods": READ,
    "authentication.k8s.io/tokenreviews": {"create"},
}
EXPORTER = {
    "zerotide.dev/inferenceendpoints": READ,
    "/pods": READ | {"patch"},  # admission lets it remove its finalizer only
    "/nodes": READ,
    "authentication.k8s.io/tokenreviews": {"create"},
    "authorization.k8s.io/subjectaccessreviews": {"create"},
}
READER = {"zerotide.dev/inferenceendpoints": READ}
UNINSTALL = {"/pods": {"list", "patch"}, "apps/deployments": {"list", "patch"}}
ACCOUNTS = {
    "zerotide-operator": OPERATOR,
    "zerotide-activator": ACTIVATOR,
    "zerotide-exporter": EXPORTER,
    "zerotide-reader": READER,
    "zerotide-uninstall": UNINSTALL,
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def granted(rules: Iterable[Object]) -> dict[str, set[str]]:
    """Return verbs by `group/resource`."""
    table: dict[str, set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                table.setdefault(f"{group}/{resource}", set()).update(rule["verbs"])
    return table


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_chart_grants_exactly_this(account: str) -> None:
    """Each cluster-wide role, word for word."""
    assert granted(find(render(), "ClusterRole", account)["rules"]) == ACCOUNTS[account]


def test_roles_in_one_namespace() -> None:
    """The few that are needed in one place only."""
    roles = {
        (item["metadata"]["name"], item["metadata"]["namespace"]): item["rules"]
        for item in render()
        if item["kind"] == "Role"
    }
    leases = "coordination.k8s.io/leases"
    system = "zerotide-system"
    assert {key: granted(rules) for key, rules in roles.items()} == {
        ("zerotide-operator", system): {leases: {"create", "get", "update", "patch"}},
        ("zerotide-exporter", "kube-node-lease"): {leases: {"get"}},
        ("zerotide-reports", system): {"/services/proxy": {"get"}},
        ("zerotide-uninstall", system): {"/pods": {"delete"}},
    }
    assert roles["zerotide-operator", system][1]["resourceNames"] == ["zerotide-operator"]
    assert roles["zerotide-reports", system][0]["resourceNames"] == ["zerotide-exporter:http"]
    assert roles["zerotide-uninstall", system][0]["resourceNames"] == ["zerotide-test"]


def test_no_role_is_dangerous() -> None:
    """No wildcard, no Secret, no shell in a pod, no way to more rights, whatever is switched on."""
    subjects = [{"kind": "Group", "name": "finance"}]
    objects = render(
        {"exporter": {"reports": {"subjects": subjects}}, "metrics": {"serviceMonitor": {"enabled": True}}}
    )
    for role in (item for item in objects if item["kind"] in ("ClusterRole", "Role")):
        for resource, verbs in granted(role["rules"]).items():
            where = f"{role['metadata']['name']}: {resource}"
            assert "*" not in resource and "*" not in verbs, where
            assert not verbs & {"escalate", "bind", "impersonate", "approve", "sign"}, where
            assert "secrets" not in resource and "rbac.authorization.k8s.io" not in resource, where
            for subresource in ("/exec", "/attach", "/portforward", "/ephemeralcontainers", "/token"):
                assert not resource.endswith(subresource), where


def test_people_get_rights_through_their_own_roles() -> None:
    """Whoever may view sees endpoints and keys; whoever may edit pods may edit endpoints, and scale them."""
    view, edit = (find(render(), "ClusterRole", f"zerotide-{name}") for name in ("view", "edit"))
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    roles = [
        {key.removeprefix(prefix) for key in role["metadata"]["labels"] if key.startswith(prefix)}
        for role in (view, edit)
    ]
    assert roles == [{"view", "edit", "admin"}, {"edit", "admin"}]
    assert granted(view["rules"]) == {
        "zerotide.dev/inferenceendpoints": READ,
        "zerotide.dev/inferenceendpoints/status": READ,
        "zerotide.dev/inferenceendpoints/scale": READ,
        "zerotide.dev/apikeys": READ,
    }
    write = {"create", "update", "patch", "delete", "deletecollection"}
    assert granted(edit["rules"]) == {
        "zerotide.dev/inferenceendpoints": write,
        "zerotide.dev/apikeys": write,
        "zerotide.dev/inferenceendpoints/scale": {"update", "patch"},
    }


async def resources(client: Client) -> list[Resource]:
    """Return every resource and subresource that the API server serves."""
    versions = [("", "v1", "/api/v1")]
    for group in (await client.request("GET", "/apis"))["groups"]:
        version = group["preferredVersion"]["groupVersion"]
        versions.append((group["name"], version.rpartition("/")[2], f"/apis/{version}"))
    found = []
    for group, version, path in versions:
        try:
            listed = (await client.request("GET", path))["resources"]
        except NotFound:
            continue
        found += [Resource(group, version, item["name"], item["kind"], item["namespaced"]) for item in listed]
    return found


async def _may(client: Client, account: str, namespace: str, resource: Resource, verb: str) -> tuple[str, str] | None:
    user = f"system:serviceaccount:{namespace}:{account}"
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    name, _, subresource = resource.plural.partition("/")
    attributes: dict[str, Any] = {
        "verb": verb,
        "group": resource.group,
        "resource": name,
        "subresource": subresource,
        "namespace": "kube-system" if resource.namespaced else "",
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": list(groups), "resourceAttributes": attributes},
    }
    answer = await client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
    return (f"{resource.group}/{resource.plural}", verb) if answer["status"]["allowed"] else None


async def test_anything_else_is_refused(place: Place) -> None:
    """Ask the API server about every verb on everything that it serves, in a namespace that is not ours."""
    served = await resources(place.client)
    assert len(served) > 100
    limit = asyncio.Semaphore(16)

    async def everything(account: str) -> set[tuple[str, str]]:
        async def ask(resource: Resource, verb: str) -> tuple[str, str] | None:
            async with limit:
                return await _may(place.client, account, place.namespace, resource, verb)

        answers = await asyncio.gather(*(ask(resource, verb) for resource in served for verb in VERBS))
        return {answer for answer in answers if answer is not None}

    anybody = await everything("an-account-without-roles")
    for account in ("zerotide-operator", "zerotide-activator", "zerotide-exporter"):
        # The API server serves no `finalizers` subresource, so discovery does not name it.
        granted = {key: verbs for key, verbs in ACCOUNTS[account].items() if not key.endswith("/finalizers")}
        assert await everything(account) - anybody == {(key, verb) for key, verbs in granted.items() for verb in verbs}


async def test_nobody_reads_secrets_even_by_name(place: Place) -> None:
    """Not in the system namespace, not in an endpoint's."""
    secrets = Resource("", "v1", "secrets", "Secret")
    for account in ACCOUNTS:
        identity = Identity(f"system:serviceaccount:{place.namespace}:{account}", "", ("system:authenticated",))
        for namespace in (place.namespace, "default"):
            assert not await allowed(place.client, identity, "get", secrets, namespace, "hf-token")
