"""The chart tells processes nothing that they do not listen to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.chart.rendering import environment, find, render
from zerotide.activator import settings as activator
from zerotide.activator.endpoints.peers import members_of
from zerotide.activator.usage.backlog import Bounds
from zerotide.activator.wire import Limits
from zerotide.api.names import PORT_SERVICE
from zerotide.controller import options as operator
from zerotide.exporter import settings as exporter

PRICES = {"exporter": {"prices": {"currency": "EUR", "prices": []}}}
Parse = Callable[[Sequence[str], Mapping[str, str]], Any]
PARSERS: dict[str, Parse] = {"operator": operator.parse, "activator": activator.parse, "exporter": exporter.parse}


@pytest.mark.parametrize("process", PARSERS)
def test_every_variable_is_read(process: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each variable that the chart sets is one that the process names in its help, so a typo is noticed."""
    container = find(render(PRICES), "Deployment", f"zerotide-{process}")["spec"]["template"]["spec"]["containers"][0]
    with pytest.raises(SystemExit):
        PARSERS[process](["--help"], {})
    told = capsys.readouterr().out
    for name in environment(container):
        assert name in told, name


@pytest.mark.parametrize("process", PARSERS)
def test_the_chart_s_values_are_understood(process: str) -> None:
    """The process accepts what the chart tells it."""
    objects = render({**PRICES, "policy": {"images": ["r.example/*"], "nodePaths": ["/models"], "allowOpen": True}})
    container = find(objects, "Deployment", f"zerotide-{process}")["spec"]["template"]["spec"]["containers"][0]
    told = {"POD_NAME": "p-1", "POD_NAMESPACE": "zerotide-system", **environment(container)}
    parsed = PARSERS[process]([], told)
    assert "zerotide-system" in str(parsed)


@pytest.mark.parametrize("process", PARSERS)
def test_every_process_logs_as_the_chart_says(process: str) -> None:
    """Level and form reach the process, whichever it is."""
    objects = render({process: {"logLevel": "warning", "logFormat": "text"}})
    container = find(objects, "Deployment", f"zerotide-{process}")["spec"]["template"]["spec"]["containers"][0]
    parsed = PARSERS[process]([], environment(container))
    assert (parsed.log_level, parsed.log_format) == ("warning", "text")


def test_the_operator_checks_the_chart_s_policy() -> None:
    """What it parses is what the chart's lists say."""
    objects = render({"policy": {"images": ["r.example/*"], "nodePaths": ["/models"]}, "operator": {"elastic": True}})
    container = find(objects, "Deployment", "zerotide-operator")["spec"]["template"]["spec"]["containers"][0]
    parsed = operator.parse([], environment(container))
    config = parsed.config
    assert parsed.waiting_worth == 7
    assert config.policy.images is not None and "r.example/*" in config.policy.images
    assert (config.policy.node_paths, config.policy.allow_open, config.elastic) == (("/models",), False, True)
    assert set(config.images) == {"zerotide", "vllm", "sglang", "llamacpp", "tgi"}


def test_endpoints_are_names_of_the_chart_s_gateway_where_it_says_so() -> None:
    """Of the very Service that it makes, on the port that endpoints are called at, in the cluster's own domain."""
    for values, type_, gateway in (
        ({}, "EndpointSlice", "zerotide-gateway.sys.svc"),
        (
            {"service": {"type": "ExternalName"}, "clusterDomain": "k8s.example.org"},
            "ExternalName",
            "zerotide-gateway.sys.svc.k8s.example.org",
        ),
    ):
        objects = render(values, namespace="sys")
        container = find(objects, "Deployment", "zerotide-operator")["spec"]["template"]["spec"]["containers"][0]
        config = operator.parse([], {"POD_NAMESPACE": "sys", **environment(container)}).config
        assert config.service_type == type_ and config.gateway.startswith(gateway)
        service = find(objects, "Service", config.gateway.partition(".")[0])
        assert (service["metadata"]["namespace"], service["spec"]["ports"][0]["port"]) == ("sys", PORT_SERVICE)
        (test,) = find(objects, "Pod", "zerotide-test")["spec"]["containers"]
        assert f"--gateway=http://{gateway}:80" in test["args"], "a wrong domain is found out by `helm test`"


def test_the_operator_learns_with_the_chart_s_worth_of_waiting() -> None:
    """The ratio of two prices reaches it."""
    objects = render({"operator": {"waitingWorth": 36}})
    container = find(objects, "Deployment", "zerotide-operator")["spec"]["template"]["spec"]["containers"][0]
    assert operator.parse([], environment(container)).waiting_worth == 36


def test_the_operator_and_the_activators_name_as_many_endpoints_as_the_chart_says() -> None:
    """In their metrics: both, or sums over both would not agree on who is `_other`."""
    objects = render({"metrics": {"maxEndpoints": 7}})
    for name, parse in (("zerotide-operator", operator.parse), ("zerotide-activator", activator.parse)):
        container = find(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        assert parse([], environment(container)).max_endpoints == 7


def test_the_exporter_pushes_where_the_chart_says() -> None:
    """Nowhere by default; the headers come from a Secret."""
    name = "zerotide-exporter"
    container = find(render(), "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
    assert exporter.parse([], environment(container)).otlp_endpoint == ""
    otlp = {"endpoint": "http://collector:4318", "interval": "15s", "headersSecret": {"name": "otlp"}}
    container = find(render({"metrics": {"otlp": otlp}}), "Deployment", name)["spec"]["template"]["spec"]["containers"][
        0
    ]
    told = exporter.parse([], environment(container))
    assert (told.otlp_endpoint, told.otlp_interval_us) == ("http://collector:4318", 15_000_000)
    (secret,) = [each for each in container["env"] if each["name"] == "ZEROTIDE_OTLP_HEADERS"]
    assert secret["valueFrom"]["secretKeyRef"] == {"name": "otlp", "key": "headers"}


def test_the_activator_holds_what_the_chart_allows() -> None:
    """Bounds over all endpoints reach it, in requests and in bytes."""
    objects = render({"activator": {"hold": {"consumer": {"maxRequests": 7, "maxBytes": "8Mi"}}}})
    container = find(objects, "Deployment", "zerotide-activator")["spec"]["template"]["spec"]["containers"][0]
    caps = activator.parse([], environment(container)).hold_caps
    assert (caps.consumer.requests, caps.consumer.bytes) == (7, 8 * 1024 * 1024)
    assert (caps.total.requests, caps.namespace.bytes) == (100_000, 1024**3)


def test_the_activator_keeps_as_much_usage_as_the_chart_says() -> None:
    """The chart's defaults are the process's own, below the space that there is, and each value reaches its bound."""
    container = find(render(), "Deployment", "zerotide-activator")["spec"]["template"]["spec"]["containers"][0]
    told = environment(container)
    assert activator.parse([], told).usage_bounds == activator.parse([], {}).usage_bounds == Bounds()
    assert Bounds().bytes + (64 << 20) < 1 << 30
    objects = render({"activator": {"usage": {"maxBytes": "1Mi", "maxRecords": 3000000, "maxAge": "90s"}}})
    told = environment(find(objects, "Deployment", "zerotide-activator")["spec"]["template"]["spec"]["containers"][0])
    assert activator.parse([], told).usage_bounds == Bounds(1 << 20, 3_000_000, 90_000_000)


ASKING = pytest.mark.parametrize("process", ["activator", "exporter"])
"""The processes that ask at URLs which users wrote."""


@ASKING
def test_it_asks_where_the_chart_allows(process: str) -> None:
    """Nowhere but at public addresses by default; the blocks reach it."""
    for values, allowed in ((None, False), ({"policy": {"egress": {"allow": ["fd00::/8", "10.0.0.0/8"]}}}, True)):
        told = find(render(values), "Deployment", f"zerotide-{process}")["spec"]["template"]["spec"]["containers"][0]
        egress = PARSERS[process]([], environment(told)).egress
        assert egress.permits("10.1.2.3", 8443) is egress.permits("fd00::1", 5556) is allowed
        assert egress.permits("1.1.1.1", 443)


@ASKING
def test_it_believes_whom_the_chart_names(process: str) -> None:
    """The file is where the ConfigMap is mounted; without one there is neither."""
    for values, name in ((None, ""), ({"policy": {"egress": {"caConfigMap": "our-ca"}}}, "our-ca")):
        pod = find(render(values), "Deployment", f"zerotide-{process}")["spec"]["template"]["spec"]
        file = PARSERS[process]([], environment(pod["containers"][0])).egress_ca_file
        volumes = {volume["name"]: volume.get("configMap") for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        if not name:
            assert file is None and "egress-ca" not in volumes and "egress-ca" not in mounts
            continue
        assert volumes["egress-ca"] == {"name": name, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        assert str(file) == f"{mounts['egress-ca']}/ca.crt"


def test_the_activator_drains_within_the_kubelet_s_patience() -> None:
    """Streams end, and the last usage records are sent, before the kill."""
    objects = render({"activator": {"terminationGracePeriodSeconds": 100}})
    container = find(objects, "Deployment", "zerotide-activator")["spec"]["template"]["spec"]["containers"][0]
    assert activator.parse([], environment(container)).drain_timeout == 85


def test_the_wire_s_limits_are_the_chart_s() -> None:
    """The chart's defaults are the process's own, and each value reaches its limit."""
    told = environment(find(render(), "Deployment", "zerotide-activator")["spec"]["template"]["spec"]["containers"][0])
    assert activator.parse([], told).limits == activator.parse([], {}).limits == Limits()
    values = {"headBytes": "8Ki", "headTime": "1s", "idleTime": "2s", "bodyBytes": "1Mi", "bodyTime": "3s"}
    values |= {"bodyProgress": "2", "bodyMemory": "2Mi", "writeTime": "4s", "requestAge": "5s"}
    numbers = {"connections": 1000000, "connectionsPerAddress": 7, "streams": 8, "resets": 9, "idleFrames": 10}
    objects = render({"gateway": {"limits": {**values, **numbers}}})
    told = environment(find(objects, "Deployment", "zerotide-activator")["spec"]["template"]["spec"]["containers"][0])
    assert activator.parse([], told).limits == Limits(
        head_bytes=8192,
        head_time=1,
        idle_time=2,
        body_bytes=1 << 20,
        body_time=3,
        body_progress=2,
        buffered_bytes=2 << 20,
        write_time=4,
        connections=1_000_000,
        connections_per_address=7,
        streams=8,
        resets=9,
        idle_frames=10,
        request_age=5,
    )


def test_the_proxies_are_the_chart_s() -> None:
    """Off by default; the addresses reach the process."""
    values = {"gateway": {"proxyProtocol": {"enabled": True, "trusted": ["10.0.0.0/8", "fd00::/8"]}}}
    for given, proxies in ((None, []), (values, ["10.0.0.0/8", "fd00::/8"])):
        container = find(render(given), "Deployment", "zerotide-activator")["spec"]["template"]["spec"]["containers"][0]
        assert [str(each) for each in activator.parse([], environment(container)).fronts.proxies] == proxies


def test_activators_talk_to_each_other() -> None:
    """By a token of their own, for their audience, on a port that only they may reach."""
    objects = render({"activator": {"processes": 3}})
    pod = find(objects, "Deployment", "zerotide-activator")["spec"]["template"]["spec"]
    told = activator.parse([], {"POD_NAMESPACE": "zerotide-system", **environment(pod["containers"][0])})
    assert told.council_user == "system:serviceaccount:zerotide-system:zerotide-activator"
    [volume] = [each for each in pod["volumes"] if each["name"] == "council-token"]
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "zerotide-activator"
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "council-token"]
    assert str(told.council_token_file) == f"{mount['mountPath']}/{token['path']}"
    ingress = find(objects, "NetworkPolicy", "zerotide-activator")["spec"]["ingress"]
    [rule] = [each for each in ingress if each["ports"][0]["port"] == told.council_port]
    assert rule["ports"] == [{"port": 9091, "endPort": 9093}]
    assert rule["from"] == [
        {"podSelector": find(objects, "NetworkPolicy", "zerotide-activator")["spec"]["podSelector"]}
    ]


def test_the_processes_of_a_pod_are_the_chart_s() -> None:
    """One by default; peers read the number from the pod itself."""
    for values, processes in (({}, 1), ({"activator": {"processes": 4}}, 4)):
        pod = find(render(values), "Deployment", "zerotide-activator")["spec"]["template"]["spec"]
        assert activator.parse([], environment(pod["containers"][0])).processes == processes
        ready = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        assert len(members_of([{"metadata": {"name": "a"}, "spec": pod, "status": ready}], 9091)) == processes
