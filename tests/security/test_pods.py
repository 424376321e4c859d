"""What users may say of their pods and objects, and what stays as it is all the same."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.reconcile.helpers import CONFIG, endpoint, template
from zerotide.api import names
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.failures import InvalidObject
from zerotide.reconcile.child import Child
from zerotide.reconcile.deployment import deployment
from zerotide.reconcile.network_policy import network_policy
from zerotide.reconcile.pdb import disruption_budget
from zerotide.reconcile.service import service
from zerotide.reconcile.service_account import service_account
from zerotide.reconcile.slices import endpoint_slice

SYSTEM = "zerotide-system"
LABELS = st.dictionaries(
    st.sampled_from((*names.labels("a", model="vllm"), names.LABEL_COMPONENT, "team")), st.text("ab", max_size=5)
)


def children(made: InferenceEndpoint) -> list[Child]:
    """Return every object that an endpoint may have."""
    found = [
        service(made, CONFIG),
        service_account(made),
        endpoint_slice(made, ["10.0.0.1"]),
        disruption_budget(made, False),
        network_policy(made, SYSTEM),
        deployment(made, template(made, CONFIG), "d", 1, {}),
    ]
    return [child for child in found if child is not None]


@given(LABELS, LABELS)
def test_labels_of_users_never_replace_ours(labels: dict[str, str], more: dict[str, str]) -> None:
    """Selectors and routing go by them: an endpoint may have any of its own, and a podTemplate none like ours."""
    made = endpoint(labels=labels, annotations=more)
    for child in children(made):
        assert child.object["metadata"]["labels"].items() >= names.labels("a").items()
        assert child.object["metadata"]["ownerReferences"][0]["uid"] == "u1"
    reserved = {key for key in {**labels, **more} if key != "team"}
    extra = {"podTemplate": {"metadata": {"labels": labels, "annotations": more}}}
    if reserved:
        with pytest.raises(InvalidObject, match="Zerotide sets those"):
            endpoint(extra)
        return
    made = endpoint(extra)
    assert template(made, CONFIG)["metadata"]["labels"] == {**labels, **names.labels("a", model="zerotide")}
    selector = deployment(made, template(made, CONFIG), "d", 1, {}).object["spec"]["selector"]
    assert selector == {"matchLabels": names.selector("a")}


NAME = st.from_regex(r"[a-z]([-a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)


@given(NAME, NAME)
def test_no_two_endpoints_have_an_object_in_common(one: str, other: str) -> None:
    """A child has its endpoint's name and nothing beside it, so names that run into each other cannot be made."""
    made = [
        {(child.kind, child.object["metadata"]["name"]) for child in children(endpoint({}, name=name, uid=name))}
        for name in (one, other)
    ]
    assert {name for _, name in made[0]} == {one}
    assert one == other or not made[0] & made[1]


LOCAL: list[dict[str, Any]] = [{}, {"model": {"uri": "file:///models/m"}}, {"model": {"uri": "pvc://claim/m"}}]
FAR: list[dict[str, Any]] = [
    {"model": {"uri": "hf://owner/name"}},
    {"runtime": {"engine": "custom", "image": "x/y:1"}},
    {"podTemplate": {"metadata": {"labels": {"team": "x"}}}},
]


@pytest.mark.parametrize("spec", [*LOCAL, *FAR])
def test_only_activators_reach_a_model(spec: dict[str, Any]) -> None:
    """On its one port, from the system's namespace; what needs no network has none but for names."""
    made = network_policy(endpoint(spec), SYSTEM).object["spec"]
    assert made["podSelector"] == {"matchLabels": names.selector("a")}
    ((source, port),) = [(rule["from"], rule["ports"]) for rule in made["ingress"]]
    assert source == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM}},
            "podSelector": {"matchLabels": {names.LABEL_COMPONENT: names.COMPONENT_ACTIVATOR}},
        }
    ]
    assert port == [{"port": 8000, "protocol": "TCP"}]
    assert made["policyTypes"] == (["Ingress", "Egress"] if spec in LOCAL else ["Ingress"])
    if spec in LOCAL:
        ((allowed,),) = [[rule] for rule in made["egress"]]
        assert set(allowed) == {"ports"} and {port["port"] for port in allowed["ports"]} == {53}
