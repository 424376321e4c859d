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
FOLLOW = {"list", "watch"}
OWN = READ | {"create", "patch"}
OPERATOR = {
    "zerotide.dev/inferenceendpoints": FOLLOW,
    "zerotide.dev/acceleratorclasses": FOLLOW,
    "zerotide.dev/budgets": FOLLOW,  # from StopPrewarm on, no replica is kept without requests
    "zerotide.dev/inferenceendpoints/status": {"patch"},
    "apps/deployments": OWN,
    "/services": OWN,
    "networking.k8s.io/networkpolicies": OWN,
    "/serviceaccounts": OWN | {"delete"},
    "discovery.k8s.io/endpointslices": OWN | {"delete"},
    "policy/poddisruptionbudgets": OWN | {"delete"},
    "/pods": FOLLOW,
    "/pods/status": {"patch"},  # admission lets it write the condition by which a pod has generated a token
    "/nodes": FOLLOW,
    "/namespaces": FOLLOW,  # by whose labels classes of accelerators are given out
    "/events": FOLLOW | {"create", "patch"},
}
LEASES = "coordination.k8s.io/leases"
ACTIVATOR = {
    "zerotide.dev/inferenceendpoints": READ,
    "zerotide.dev/apikeys": READ,
    "zerotide.dev/budgets": READ,
    "zerotide.dev/inferenceendpoints/status": {"patch"},
    "/pods": READ,
    "/configmaps": {"get"},  # those that endpoints name as holding keys; it cannot list any
    "authentication.k8s.io/tokenreviews": {"create"},
}
EXPORTER = {
    "zerotide.dev/inferenceendpoints": READ,
    "zerotide.dev/pricebooks": READ,
    "zerotide.dev/budgets": READ,
    "zerotide.dev/budgets/status": {"patch"},  # what is used up, which the activators go by
    "/events": {"create"},  # thresholds of budgets that are reached
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
    system = "zerotide-system"
    assert {key: granted(rules) for key, rules in roles.items()} == {
        ("zerotide-operator", system): {LEASES: {"create", "get", "update"}},
        ("zerotide-exporter", "kube-node-lease"): {LEASES: {"get"}},
        ("zerotide-reports", system): {"/services/proxy": {"get"}},
        ("zerotide-uninstall", system): {"/pods": {"delete"}},
    }
    assert roles["zerotide-operator", system][1]["resourceNames"] == ["zerotide-operator"]
    assert roles["zerotide-reports", system][0]["resourceNames"] == ["zerotide-exporter:http"]
    assert roles["zerotide-uninstall", system][0]["resourceNames"] == ["zerotide-test"]


def test_exporters_on_a_database_have_a_lease() -> None:
    """One of several seals; on a volume there is only one."""
    values = {"exporter": {"database": {"secretName": "ledger"}}}
    (role,) = (
        item["rules"]
        for item in render(values)
        if item["kind"] == "Role"
        and item["metadata"] | {"labels": {}}
        == {
            "name": "zerotide-exporter",
            "namespace": "zerotide-system",
            "labels": {},
        }
    )
    assert granted(role) == {LEASES: {"create", "get", "update"}}
    assert role[1]["resourceNames"] == ["zerotide-exporter"]


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
        "zerotide.dev/budgets": READ,
        "zerotide.dev/acceleratorclasses": READ,
        "zerotide.dev/pricebooks": READ,
    }
    billing = find(render(), "ClusterRole", "zerotide-billing-admin")
    assert granted(billing["rules"]) == {
        "zerotide.dev/budgets": READ | {"create", "update", "patch", "delete"},
        "zerotide.dev/pricebooks": READ | {"create", "update", "patch", "delete"},
        "zerotide.dev/acceleratorclasses": READ | {"create", "update", "patch", "delete"},
    }
    assert not [key for key in billing["metadata"]["labels"] if key.startswith(prefix)], "part of no other role"
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


Right = tuple[str, str]
"""`group/resource` and verb."""


def pairs(table: dict[str, set[str]]) -> set[Right]:
    """Return each right of a table by itself."""
    return {(key, verb) for key, verbs in table.items() for verb in verbs}


class Asker:
    """Ask the API server what accounts of the chart may do."""

    def __init__(self, place: Place, served: list[Resource]) -> None:
        self._place, self._served, self._limit = place, served, asyncio.Semaphore(16)

    async def everything(self, account: str, namespace: str) -> set[Right]:
        """Return every right on every object of a namespace and of the cluster."""
        asked = (self._ask(account, namespace, one, verb) for one in self._served for verb in VERBS)
        return {answer for answer in await asyncio.gather(*asked) if answer is not None}

    async def named(self, account: str, namespace: str, resource: str, name: str) -> set[str]:
        """Return the verbs on one object."""
        (found,) = (one for one in self._served if f"{one.group}/{one.plural}" == resource)
        asked = (self._ask(account, namespace, found, verb, name) for verb in VERBS)
        return {answer[1] for answer in await asyncio.gather(*asked) if answer is not None}

    async def _ask(
        self, account: str, namespace: str, resource: Resource, verb: str, object_name: str = ""
    ) -> Right | None:
        home = self._place.namespace
        name, _, subresource = resource.plural.partition("/")
        attributes: dict[str, Any] = {
            "verb": verb,
            "group": resource.group,
            "resource": name,
            "subresource": subresource,
            "namespace": namespace if resource.namespaced else "",
            "name": object_name,
        }
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
        user = f"system:serviceaccount:{home}:{account}"
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        async with self._limit:
            answer = await self._place.client.request("POST", path, body=body)
        return (f"{resource.group}/{resource.plural}", verb) if answer["status"]["allowed"] else None


async def test_anything_else_is_refused(place: Place) -> None:
    """Ask the API server about every verb on everything that it serves, in a namespace that is not ours."""
    served = await resources(place.client)
    assert len(served) > 100
    asker = Asker(place, served)
    anybody = await asker.everything("an-account-without-roles", "kube-system")
    for account in ("zerotide-operator", "zerotide-activator", "zerotide-exporter"):
        assert await asker.everything(account, "kube-system") - anybody == pairs(ACCOUNTS[account])


async def test_at_home_the_operator_has_its_lease_besides(place: Place) -> None:
    """It may make Leases, since a name cannot be asked for there, and touch its own, but nobody else's."""
    asker = Asker(place, await resources(place.client))
    account, home = "zerotide-operator", place.namespace
    anybody = await asker.everything("an-account-without-roles", home)
    assert await asker.everything(account, home) - anybody == pairs({**OPERATOR, LEASES: {"create"}})
    assert await asker.named(account, home, LEASES, "zerotide-operator") == {"create", "get", "update"}
    assert await asker.named(account, home, LEASES, "another") == {"create"}


async def test_nobody_reads_secrets_even_by_name(place: Place) -> None:
    """Not in the system namespace, not in an endpoint's."""
    secrets = Resource("", "v1", "secrets", "Secret")
    for account in ACCOUNTS:
        identity = Identity(f"system:serviceaccount:{place.namespace}:{account}", "", ("system:authenticated",))
        for namespace in (place.namespace, "default"):
            assert not await allowed(place.client, identity, "get", secrets, namespace, "hf-token")
