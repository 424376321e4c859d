"""What the Service of an endpoint is, by its type, and what becomes of it when the installation's type changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reconcile.helpers import CONFIG, endpoint, raw
from tests.reconcile.world import World, awake
from zerotide.api.names import is_cluster_domain
from zerotide.reconcile.child import Kind
from zerotide.reconcile.config import Config, ServiceType
from zerotide.reconcile.plan import Delete
from zerotide.reconcile.service import service
from zerotide.reconcile.steer import Apply

EXTERNAL = replace(CONFIG, service_type=ServiceType.EXTERNAL_NAME)
GATEWAY = "zerotide-gateway.zerotide-system.svc.cluster.local"


def test_an_external_name_is_the_gateway_s_and_answers_on_the_same_port() -> None:
    """Clients use port 80 either way, and what reads targets finds the gateway's Service and not its pods' port."""
    made = service(endpoint(), EXTERNAL).object["spec"]
    port = {"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP"}
    assert made == {"type": "ExternalName", "externalName": GATEWAY, "ports": [port]}
    port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    assert service(endpoint(), CONFIG).object["spec"] == {"type": "ClusterIP", "ports": [port]}


def test_the_name_is_whole() -> None:
    """The namespace of the installation and the domain of the cluster are in it."""
    config = replace(EXTERNAL, system_namespace="sys", cluster_domain="k8s.example.org")
    assert service(endpoint(), config).object["spec"]["externalName"] == "zerotide-gateway.sys.svc.k8s.example.org"


@pytest.mark.parametrize(
    ("domain", "good"),
    [
        ("cluster.local", True),
        ("local", True),
        ("a" * 63, True),
        (".".join(["a" * 41] * 4), True),
        (".".join(["a" * 41] * 4) + ".bc", False),
        ("", False),
        ("a" * 64, False),
        ("cluster.local.", False),
        (".local", False),
        ("Cluster.local", False),
        ("cluster local", False),
        ("-a.local", False),
    ],
)
def test_a_domain_leaves_room_for_the_gateway_s_name(domain: str, good: bool) -> None:
    """A name has 253 characters at most, and a namespace 63 of them."""
    assert is_cluster_domain(domain) is good
    if good:
        longest = replace(EXTERNAL, system_namespace="n" * 63, cluster_domain=domain).gateway
        assert len(longest) <= 253


def test_with_external_names_no_address_is_written_down() -> None:
    """There is no slice, and activators that come and go change nothing of an endpoint."""
    world = World(config=EXTERNAL)
    world.settle()
    assert Kind.SERVICE in world.children and Kind.ENDPOINT_SLICE not in world.children
    assert world.status["state"] == "Asleep" and world.status["url"] == "http://a.demo.svc"
    world.activators = ("10.0.0.7", "fd00::7")
    assert world.settle() == 0


def test_a_switch_touches_no_replica() -> None:
    """The slice goes once the name has become the gateway's, so that the name leads there all the time."""
    world = awake()
    before = world.children[Kind.DEPLOYMENT]
    world.config = EXTERNAL
    steering, planned = world.look()
    assert steering.move is None and planned.status is None
    told, over = planned.writes
    assert isinstance(told, Apply) and told.child.kind is Kind.SERVICE and told.drift == "spec.type"
    assert isinstance(over, Delete) and over.kind is Kind.ENDPOINT_SLICE
    assert world.settle() == 1
    assert world.children[Kind.DEPLOYMENT] is before and world.status["state"] == "Awake"
    world.config = CONFIG
    assert world.settle() == 1
    assert world.children[Kind.DEPLOYMENT] is before
    assert world.children[Kind.SERVICE]["spec"] == service(endpoint(), CONFIG).object["spec"]
    assert world.children[Kind.ENDPOINT_SLICE]["endpoints"]


configs = st.builds(
    lambda type_, domain, namespace: replace(
        CONFIG, service_type=type_, cluster_domain=domain, system_namespace=namespace
    ),
    st.sampled_from(list(ServiceType)),
    st.sampled_from(["cluster.local", "k8s.example.org"]),
    st.sampled_from(["zerotide-system", "sys"]),
)
wrong: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "ExternalName", "externalName": "elsewhere.example.org"},
        {"type": "ClusterIP", "ports": [{"name": "http", "port": 81}]},
        {"type": "LoadBalancer", "ports": []},
    ]
)
events = st.one_of(
    st.tuples(st.just("config"), configs),
    st.tuples(st.just("activators"), st.sampled_from([(), ("10.0.0.1",), ("10.0.0.2", "10.0.0.3"), ("fd00::1",)])),
    st.tuples(st.just("lost"), st.sampled_from([Kind.SERVICE, Kind.ENDPOINT_SLICE])),
    st.tuples(st.just("changed"), wrong),
    st.tuples(st.just("taken"), st.booleans()),
)


@settings(deadline=None)
@given(config=configs, history=st.lists(events, max_size=8))
def test_whatever_was_before_the_service_comes_to_be_what_is_asked(
    config: Config, history: list[tuple[str, Any]]
) -> None:
    """Types, domains, activators and other people's hands in any order: the last word is the installation's."""
    world = World(obj=raw(), config=config)
    world.settle()
    for kind, value in history:
        match kind:
            case "config":
                world.config = value
            case "activators":
                world.activators = value
            case "lost":
                world.children.pop(value, None)
            case "changed" if Kind.SERVICE in world.children:
                world.children[Kind.SERVICE] = {**world.children[Kind.SERVICE], "spec": value}
            case "taken":
                world.conflicts = frozenset({Kind.SERVICE} if value else ())
                world.children.pop(Kind.SERVICE, None)
        world.settle()
        live, slice_ = world.children.get(Kind.SERVICE), world.children.get(Kind.ENDPOINT_SLICE)
        assert world.status["url"] == "http://a.demo.svc"
        if world.conflicts:
            assert live is None and slice_ is None
            continue
        assert live is not None and live["spec"] == service(endpoint(), world.config).object["spec"]
        if world.config.service_type is ServiceType.EXTERNAL_NAME:
            assert slice_ is None
        else:
            assert slice_ is not None
            told = {address for item in slice_["endpoints"] for address in item["addresses"]}
            assert told == set(world.activators)
