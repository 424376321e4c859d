"""What the operator is told: flags, each with an environment variable as its default."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerotide.api.egress import Egress
from zerotide.api.names import CLUSTER_DOMAIN, PORT_ADMIN, SYSTEM_NAMESPACE, is_cluster_domain
from zerotide.controller.failures import SettingsError
from zerotide.kube.options import Flags, Given
from zerotide.reconcile.config import Config, Policy, ServiceType

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that the operator is told; durations in seconds."""

    config: Config
    namespace: str
    identity: str
    listen: str
    port: int
    log_format: str
    log_level: str
    token_file: Path | None
    activator_port: int
    workers: int
    resync: float
    lease: float
    elect: bool
    waiting_worth: float
    max_endpoints: int
    exporter_url: str
    exporter_token_file: Path | None


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Options:
    """Read flags and environment.

    Raises SettingsError for values that cannot be used; `--help` and unknown flags end the process as usual.
    """
    environment = os.environ if environment is None else environment
    given = _flags(environment).read(arguments)
    namespace = given.text("namespace") or SYSTEM_NAMESPACE
    images = given.json("policy-images", list, None)
    policy = Policy(
        images=None if images is None else tuple(map(str, images)),
        node_paths=tuple(map(str, given.json("policy-node-paths", list, []))),
        allow_open=given.text("policy-allow-open").lower() == "true",
        egress=_egress(given),
    )
    config = Config(
        images=given.json("runtime-images", dict, {}),
        policy=policy,
        system_namespace=namespace,
        elastic=given.text("elastic").lower() == "true",
        service_type=ServiceType(given.choice("service-type", tuple(ServiceType))),
        cluster_domain=_domain(given.text("cluster-domain")),
    )
    return Options(
        config=config,
        namespace=namespace,
        identity=environment.get("POD_NAME") or f"{os.uname().nodename}-{os.getpid()}",
        listen=given.text("listen"),
        port=given.number("port"),
        log_format=given.log_format,
        log_level=given.log_level,
        token_file=given.path("activator-token-file"),
        activator_port=given.number("activator-port"),
        workers=given.number("workers"),
        resync=float(given.number("resync", DAY_S)),
        lease=float(given.number("lease-duration", DAY_S, least=2)),
        elect=given.text("elect").lower() != "false",
        waiting_worth=float(given.number("waiting-worth", 100_000)),
        max_endpoints=given.number("max-endpoints", 100_000),
        exporter_url=_exporter(given.text("exporter-url").rstrip("/")),
        exporter_token_file=given.path("exporter-token-file"),
    )


def _exporter(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise SettingsError(f"--exporter-url {url!r}: give an http or https address, or nothing")
    return url


def _domain(name: str) -> str:
    if not is_cluster_domain(name):
        raise SettingsError(f"--cluster-domain {name!r}: give what Services' names end with, such as {CLUSTER_DOMAIN}")
    return name


def _egress(given: Given) -> Egress:
    try:
        return Egress.of(map(str, given.json("policy-egress-allow", list, [])))
    except ValueError as error:
        raise SettingsError(f"--policy-egress-allow: give CIDR blocks: {error}") from error


def _flags(environment: Mapping[str, str]) -> Flags:
    about = "Turn InferenceEndpoints into objects, decide their replicas, write their status."
    flags = Flags("zerotide.controller", about, environment, SettingsError)
    flags.add("namespace", SYSTEM_NAMESPACE, "namespace of this installation", "POD_NAMESPACE")
    every = "::" if ":" in environment.get("POD_IP", "") else "0.0.0.0"
    flags.add("listen", every, "address of /healthz, /readyz and /metrics")
    flags.add("port", str(PORT_ADMIN), "port of /healthz, /readyz and /metrics; 0 for any")
    flags.add("runtime-images", "{}", "images by engine, a JSON object")
    flags.add("policy-images", "", "images that endpoints may use, a JSON list; empty for any")
    flags.add("policy-node-paths", "[]", "node folders that file:// may read, a JSON list")
    flags.add("policy-egress-allow", "[]", "CIDR blocks that users' URLs may lead to, a JSON list")
    # An empty variable allows nothing, unlike one that is absent.
    open_to_all = "true" if environment.get("ZEROTIDE_POLICY_ALLOW_OPEN", "true") else "false"
    flags.add("policy-allow-open", open_to_all, "whether endpoints may be open to anyone: true or false")
    flags.add("elastic", "false", "whether nodes are added on demand, so that no pod is hopeless: true or false")
    flags.add(
        "service-type", ServiceType.ENDPOINT_SLICE, "how endpoints' Services lead to us: " + ", ".join(ServiceType)
    )
    flags.add("cluster-domain", CLUSTER_DOMAIN, "what Services' names end with, for --service-type ExternalName")
    flags.add("activator-token-file", "", "token for the activators' demand streams")
    flags.add("activator-port", str(PORT_ADMIN), "port of the activators' demand streams")
    flags.add("workers", "32", "endpoints that are worked on at a time")
    flags.add(
        "resync", "600", "seconds between lists of all endpoints; one that is not new is looked at every sixth time"
    )
    flags.add("lease-duration", "5", "seconds after which the Lease of an operator that does not renew it is free")
    flags.add("waiting-worth", "7", "idle seconds of a replica that a request's waiting one second less is worth")
    flags.add("max-endpoints", "1000", "endpoints with metrics of their own; those that sleep come last")
    flags.add("exporter-url", "", "exporter that says what endpoints cost; empty leaves status.cost out")
    flags.add("exporter-token-file", "", "file of the token for the exporter; empty sends none")
    flags.add("elect", "true", "whether to hold a Lease while writing: true or false")
    return flags
