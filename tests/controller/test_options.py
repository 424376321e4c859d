"""Flags, their environment variables, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerotide.controller.failures import SettingsError
from zerotide.controller.options import parse


def test_defaults_and_environment() -> None:
    """As the chart sets them."""
    plain = parse([], {})
    assert (plain.namespace, plain.port, plain.log_format, plain.elect) == ("zerotide-system", 9090, "json", True)
    assert plain.config.policy.images is None and plain.token_file is None
    told = parse(
        ["--workers", "3"],
        {
            "POD_NAME": "op-1",
            "POD_NAMESPACE": "sys",
            "ZEROTIDE_LOG_LEVEL": "debug",
            "ZEROTIDE_RUNTIME_IMAGES": '{"zerotide": "r:1"}',
            "ZEROTIDE_POLICY_IMAGES": '["r:*"]',
            "ZEROTIDE_POLICY_NODE_PATHS": '["/srv"]',
            "ZEROTIDE_POLICY_ALLOW_OPEN": "false",
            "ZEROTIDE_POLICY_EGRESS_ALLOW": '["10.0.0.0/8"]',
            "ZEROTIDE_ACTIVATOR_TOKEN_FILE": "/t",
            "ZEROTIDE_LEASE_DURATION": "15",
            "ZEROTIDE_WAITING_WORTH": "3",
            "ZEROTIDE_EXPORTER_URL": "http://exporter:9090/",
            "ZEROTIDE_EXPORTER_TOKEN_FILE": "/e",
            "ZEROTIDE_SERVICE_TYPE": "ExternalName",
            "ZEROTIDE_CLUSTER_DOMAIN": "k8s.example.org",
        },
    )
    assert (plain.config.service_type, plain.config.cluster_domain) == ("EndpointSlice", "cluster.local")
    assert told.config.service_type == "ExternalName"
    assert told.config.gateway == "zerotide-gateway.sys.svc.k8s.example.org"
    assert (plain.lease, told.lease) == (5.0, 15.0)
    assert (plain.waiting_worth, told.waiting_worth) == (7.0, 3.0)
    assert (told.identity, told.namespace, told.workers, told.log_level) == ("op-1", "sys", 3, "debug")
    assert told.config.images == {"zerotide": "r:1"} and told.config.system_namespace == "sys"
    policy = told.config.policy
    assert (policy.images, policy.node_paths, policy.allow_open) == (("r:*",), ("/srv",), False)
    assert policy.egress.permits("10.1.2.3", 80) and not plain.config.policy.egress.permits("10.1.2.3", 443)
    assert told.token_file == Path("/t")
    assert (plain.exporter_url, plain.exporter_token_file) == ("", None), "alone it asks nobody"
    assert (told.exporter_url, told.exporter_token_file) == ("http://exporter:9090", Path("/e"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "--port 'x': give a number from 0 to 65535"),
        (["--lease-duration", "1"], "--lease-duration '1': give a number from 2"),
        (["--log-format", "xml"], "--log-format 'xml': choose json or text"),
        (["--log-level", "loud"], "--log-level 'loud': choose debug, info, warning or error"),
        (["--service-type", "ClusterIP"], "--service-type 'ClusterIP': choose EndpointSlice or ExternalName"),
        (["--cluster-domain", "cluster.local."], "--cluster-domain 'cluster.local.': give what Services' names end"),
        (["--exporter-url", "exporter:9090"], "--exporter-url 'exporter:9090': give an http or https address"),
        (["--runtime-images", "{"], "--runtime-images must be JSON"),
        (["--runtime-images", "[]"], "--runtime-images must be a JSON object"),
        (["--policy-images", "{}"], "--policy-images must be a JSON list"),
        (
            ["--policy-egress-allow", '["10.0.0.1/8"]'],
            "--policy-egress-allow: give CIDR blocks: 10.0.0.1/8 has host bits",
        ),
    ],
)
def test_what_cannot_be_used_is_told(arguments: list[str], message: str) -> None:
    """With the flag's name."""
    with pytest.raises(SettingsError, match=message):
        parse(arguments, {})
