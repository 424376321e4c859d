"""Every switch of the chart changes what it says and nothing else breaks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chart.rendering import CHART, KUBERNETES, Object, environment, find, helm, names, render


def test_lint() -> None:
    """Helm's own linter finds nothing, warnings included."""
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--kube-version", KUBERNETES)


def test_defaults() -> None:
    """One of each process, and nothing that needs a kind which clusters may lack."""
    objects = render()
    assert names(objects, "Deployment") == {"zerotide-operator", "zerotide-activator", "zerotide-exporter"}
    assert names(objects, "Service") == {"zerotide-gateway", "zerotide-exporter"}
    assert names(objects, "CustomResourceDefinition") == {
        "inferenceendpoints.zerotide.dev",
        "apikeys.zerotide.dev",
        "acceleratorclasses.zerotide.dev",
        "budgets.zerotide.dev",
        "pricebooks.zerotide.dev",
    }
    assert {item["apiVersion"].partition("/")[0] for item in objects} <= {
        "v1",
        "apps",
        "batch",
        "policy",
        "networking.k8s.io",
        "rbac.authorization.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
    }


@pytest.mark.parametrize(
    ("values", "kind", "name"),
    [
        ({"crds": {"enabled": False}}, "CustomResourceDefinition", "apikeys.zerotide.dev"),
        ({"rbac": {"aggregate": False}}, "ClusterRole", "zerotide-edit"),
        ({"policy": {"enabled": False}}, "ValidatingAdmissionPolicy", "zerotide-endpoints"),
        ({"networkPolicies": {"enabled": False}}, "NetworkPolicy", "zerotide-activator"),
        ({"uninstall": {"sleepEndpoints": False}}, "Job", "zerotide-uninstall"),
        ({"operator": {"replicas": 1}}, "PodDisruptionBudget", "zerotide-operator"),
        ({"activator": {"replicas": 1}}, "PodDisruptionBudget", "zerotide-activator"),
        ({"exporter": {"persistence": {"enabled": False}}}, "PersistentVolumeClaim", "zerotide-ledger"),
        ({"exporter": {"persistence": {"existingClaim": "mine"}}}, "PersistentVolumeClaim", "zerotide-ledger"),
    ],
)
def test_what_can_be_switched_off(values: Object, kind: str, name: str) -> None:
    """There by default, gone with the switch."""
    assert name in names(render(), kind)
    assert name not in names(render(values), kind)


@pytest.mark.parametrize(
    ("values", "kind", "name"),
    [
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, "ServiceMonitor", "zerotide"),
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, "Service", "zerotide-metrics"),
        ({"metrics": {"prometheusRule": {"enabled": True}}}, "PrometheusRule", "zerotide"),
        ({"metrics": {"rulesConfigMap": {"enabled": True}}}, "ConfigMap", "zerotide-rules"),
        ({"exporter": {"prices": {"currency": "EUR", "prices": []}}}, "ConfigMap", "zerotide-prices"),
        (
            {"exporter": {"reports": {"subjects": [{"kind": "Group", "name": "finance"}]}}},
            "RoleBinding",
            "zerotide-reports",
        ),
        (
            {"extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}]},
            "ConfigMap",
            "more",
        ),
    ],
)
def test_what_can_be_switched_on(values: Object, kind: str, name: str) -> None:
    """Absent by default, there with the switch."""
    assert name not in names(render(), kind)
    assert name in names(render(values), kind)


@pytest.mark.parametrize("process", ["operator", "activator", "exporter"])
def test_scheduling_of_each_process(process: str) -> None:
    """Every process takes the same switches of its pods."""
    values: dict[str, Any] = {
        "logFormat": "text",
        "logLevel": "debug",
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
        "extraEnv": [{"name": "EXTRA", "value": "1"}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    }
    objects = render({process: values, "commonLabels": {"team": "ml"}, "images": {"pullSecrets": [{"name": "pull"}]}})
    deployment = find(objects, "Deployment", f"zerotide-{process}")
    pod, metadata = deployment["spec"]["template"]["spec"], deployment["spec"]["template"]["metadata"]
    assert {key: pod[key] for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName")} == {
        key: values[key] for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName")
    }
    container = pod["containers"][0]
    told = environment(container)
    assert (told["ZEROTIDE_LOG_FORMAT"], told["ZEROTIDE_LOG_LEVEL"], told["EXTRA"]) == ("text", "debug", "1")
    assert container["resources"] == values["resources"]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert metadata["annotations"]["a"] == "b" and metadata["labels"]["team"] == "ml"


def test_selectors_never_change_with_versions_or_labels() -> None:
    """A Deployment's selector is immutable: an upgrade must not try to change it."""
    for process in ("operator", "activator", "exporter"):
        deployment = find(render({"commonLabels": {"team": "ml"}}), "Deployment", f"zerotide-{process}")
        assert deployment["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": "zerotide",
            "app.kubernetes.io/component": process,
        }


def test_image_reference() -> None:
    """The tag, the chart's version without one, or the digest."""

    def image(**zerotide: str) -> str:
        objects = render({"images": {"zerotide": {"repository": "r.example/z", **zerotide}}})
        reference: str = find(objects, "Deployment", "zerotide-operator")["spec"]["template"]["spec"]["containers"][0][
            "image"
        ]
        return reference

    digest = "sha256:" + "0" * 64
    assert image(tag="v2") == "r.example/z:v2"
    assert image(tag="") == "r.example/z:0.1.0"
    assert image(tag="v2", digest=digest) == f"r.example/z@{digest}"


def test_gateway_service() -> None:
    """Its type and ports are the user's; a node port never reaches a ClusterIP service, which would be refused."""

    def service(**values: Any) -> Object:
        spec: Object = find(render({"gateway": {"service": values}}), "Service", "zerotide-gateway")["spec"]
        return spec

    assert service()["type"] == "ClusterIP"
    assert service(type="NodePort", nodePort=31080)["ports"][0]["nodePort"] == 31080
    assert "nodePort" not in service(nodePort=31080)["ports"][0]
    assert service(port=8000)["ports"][0] == {"name": "http", "port": 8000, "targetPort": "http"}


def test_gateway_over_tls() -> None:
    """One more port, from the Service to the process, and the Secret behind it; nothing of it without."""

    def parts(objects: list[Object]) -> tuple[Object, Object, Object]:
        pod = find(objects, "Deployment", "zerotide-activator")["spec"]["template"]["spec"]
        service = find(objects, "Service", "zerotide-gateway")["spec"]
        return pod, service, find(objects, "NetworkPolicy", "zerotide-activator")["spec"]

    pod, service, policy = parts(render({"gateway": {"tls": {"secretName": "cert", "port": 8443}}}))
    container = pod["containers"][0]
    folder = environment(container)["ZEROTIDE_TLS_DIR"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}[folder]
    assert {"name": mounted, "secret": {"secretName": "cert", "defaultMode": 0o440}} in pod["volumes"]
    assert {"name": "https", "containerPort": 8443} in container["ports"]
    assert {"name": "https", "port": 8443, "targetPort": "https"} in service["ports"]
    assert {"port": "https"} in policy["ingress"][0]["ports"]
    pod, service, policy = parts(render())
    assert "https" not in json.dumps([pod["containers"][0]["ports"], service, policy])
    assert "ZEROTIDE_TLS_DIR" not in environment(pod["containers"][0])


def test_activators_are_never_all_gone() -> None:
    """An upgrade starts a new one before it ends an old one, and streams have time to end."""
    spec = find(render(), "Deployment", "zerotide-activator")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 15 * 60


def test_the_ledger_has_one_writer() -> None:
    """Two exporters must never have the volume at once."""
    spec = find(render(), "Deployment", "zerotide-exporter")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_with_a_database_there_is_no_volume() -> None:
    """Its address comes from a Secret that the exporter's process does not read."""
    objects = render({"exporter": {"database": {"secretName": "ledger-db"}}})
    spec = find(objects, "Deployment", "zerotide-exporter")["spec"]
    pod = spec["template"]["spec"]
    (variable,) = (each for each in pod["containers"][0]["env"] if each["name"] == "ZEROTIDE_DATABASE")
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "ledger-db", "key": "url"}}
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp"}
    assert spec["strategy"] == {"type": "RollingUpdate"}
    assert not names(objects, "PersistentVolumeClaim")


def test_an_archive_lies_beside_the_ledger_or_on_a_claim_of_its_own() -> None:
    """A ledger in a database has no volume to archive to."""

    def archived(values: Object) -> tuple[str | None, dict[str, Any]]:
        pod = find(render({"exporter": values}), "Deployment", "zerotide-exporter")["spec"]["template"]["spec"]
        mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
        claims = {
            mounts[each["name"]]: each["persistentVolumeClaim"]["claimName"]
            for each in pod["volumes"]
            if "persistentVolumeClaim" in each
        }
        return environment(pod["containers"][0]).get("ZEROTIDE_ARCHIVE"), claims

    ledger, archive = "/var/lib/zerotide/ledger", "/var/lib/zerotide/archive"
    assert archived({}) == (None, {ledger: "zerotide-ledger"})
    assert archived({"archive": {"enabled": True}}) == (f"{ledger}/archive", {ledger: "zerotide-ledger"})
    own = {"enabled": True, "existingClaim": "mine"}
    assert archived({"archive": own}) == (archive, {ledger: "zerotide-ledger", archive: "mine"})
    assert archived({"archive": own, "database": {"secretName": "db"}}) == (archive, {archive: "mine"})
    with pytest.raises(Exception, match=r"set exporter\.archive\.existingClaim"):
        render({"exporter": {"archive": {"enabled": True}, "database": {"secretName": "db"}}})


def test_the_price_book_is_the_one_that_is_named() -> None:
    """By default `default`."""

    def named(values: Object | None = None) -> str | None:
        template = find(render(values), "Deployment", "zerotide-exporter")["spec"]["template"]
        return environment(template["spec"]["containers"][0])["ZEROTIDE_PRICE_BOOK"]

    assert named() == "default"
    assert named({"exporter": {"priceBook": "list-2026"}}) == "list-2026"


def test_several_exporters_need_a_database() -> None:
    """Two never have one volume."""
    database = {"database": {"secretName": "ledger"}}
    two = {"exporter": {"replicas": 2, **database}}
    assert find(render(two), "Deployment", "zerotide-exporter")["spec"]["replicas"] == 2
    with pytest.raises(Exception, match="several exporters need a ledger in PostgreSQL"):
        render({"exporter": {"replicas": 2}})


def test_charges_are_sealed_after_the_grace_that_is_given() -> None:
    """By default after an hour."""

    def grace(values: Object | None = None) -> str | None:
        template = find(render(values), "Deployment", "zerotide-exporter")["spec"]["template"]
        return environment(template["spec"]["containers"][0])["ZEROTIDE_SEAL_GRACE"]

    assert grace() == "1h"
    assert grace({"exporter": {"sealGrace": "10m"}}) == "10m"


def test_new_prices_restart_the_exporter() -> None:
    """The price file is read at the start, so another one makes another pod."""

    def checksum(amount: str) -> str:
        price = {
            "name": "cpu",
            "meter": "CPUTime",
            "amount": amount,
            "per": "Hour",
            "validFrom": "2026-01-01T00:00:00Z",
        }
        objects = render({"exporter": {"prices": {"currency": "EUR", "prices": [price]}}})
        template = find(objects, "Deployment", "zerotide-exporter")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/prices"])

    assert checksum("1") != checksum("2")
    assert checksum("1") == checksum("1")


def test_tokens_between_processes_have_an_audience() -> None:
    """For activators, the exporter, or both; none is good at the API server."""

    def audience(process: str) -> list[str]:
        pod = find(render(), "Deployment", f"zerotide-{process}")["spec"]["template"]["spec"]
        sources = [source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])]
        return [source["serviceAccountToken"]["audience"] for source in sources]

    assert audience("operator") == ["zerotide-activator", "zerotide-exporter"]
    assert audience("activator") == ["zerotide-exporter", "zerotide-activator"]
    assert audience("exporter") == []


def test_both_policies_see_the_same_lists() -> None:
    """What admission allows, the operator allows as well."""
    egress = {"allow": ["10.0.0.0/8", "fd00::/8"]}
    policy = {"images": ["r.example/team/*"], "nodePaths": ["/models"], "allowOpen": True, "egress": egress}
    objects = render({"policy": policy})
    admission = find(objects, "ValidatingAdmissionPolicy", "zerotide-endpoints")["spec"]
    variables = {variable["name"]: variable["expression"] for variable in admission["variables"]}
    container = find(objects, "Deployment", "zerotide-operator")["spec"]["template"]["spec"]["containers"][0]
    told = environment(container)
    assert json.loads(variables["images"]) == json.loads(told["ZEROTIDE_POLICY_IMAGES"])
    assert "r.example/team/*" in json.loads(variables["images"])
    assert json.loads(variables["nodePaths"]) == json.loads(told["ZEROTIDE_POLICY_NODE_PATHS"]) == ["/models"]
    assert json.loads(variables["egress"]) == json.loads(told["ZEROTIDE_POLICY_EGRESS_ALLOW"]) == egress["allow"]
    assert told["ZEROTIDE_POLICY_ALLOW_OPEN"] == "true"
    assert not any("Open" in rule["expression"] for rule in admission["validations"])


def test_another_namespace() -> None:
    """The chart names its own namespace wherever one is named."""
    objects = render(namespace="models")
    for item in objects:
        assert item["metadata"].get("namespace", "models") in ("models", "kube-node-lease"), item["metadata"]
        for subject in item.get("subjects", []):
            assert subject["namespace"] == "models"
    assert "zerotide-system" not in json.dumps([item for item in objects if item["kind"] != "CustomResourceDefinition"])
