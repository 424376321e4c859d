"""The operator checks what admission checks: the same bad specs are refused by both."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reconcile.forbidden import ALLOWED, BLOCK, FOLDER, IMAGE, REFUSED
from tests.reconcile.helpers import endpoint, template
from zerotide.api.egress import Egress
from zerotide.reconcile.config import Config, Policy
from zerotide.reconcile.failures import RenderError

POLICY = Policy(images=(IMAGE,), node_paths=(FOLDER,), allow_open=False, egress=Egress.of([BLOCK]))
CONFIG = Config(images={"zerotide": IMAGE}, policy=POLICY)


@pytest.mark.parametrize("name", REFUSED)
def test_what_admission_refuses_makes_no_pod(name: str) -> None:
    """Also where admission is switched off, or was wider when the endpoint came."""
    with pytest.raises(RenderError) as refusal:
        template(endpoint(REFUSED[name].spec), CONFIG)
    assert REFUSED[name].operator in str(refusal.value)


@pytest.mark.parametrize("name", ALLOWED)
def test_what_admission_lets_pass_makes_a_pod(name: str) -> None:
    """Nothing is refused that could not be helped at apply."""
    assert template(endpoint(ALLOWED[name]), CONFIG)["spec"]["containers"][0]["name"] == "model"


KEYS = (
    "securityContext",
    "containers",
    "initContainers",
    "volumes",
    "volumeMounts",
    "ports",
    "name",
    "image",
    "hostPath",
    "capabilities",
    "add",
    "seccompProfile",
    "windowsOptions",
    "sysctls",
    "privileged",
    "$patch",
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["model", "x", "delete", "replace", IMAGE])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, min_size=1, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), anything, max_size=4))
def test_whatever_podtemplate_holds_the_answer_is_a_pod_or_a_reason(spec: dict[str, Any]) -> None:
    """It is any JSON; what passes is no privileged pod."""
    with suppress(RenderError):
        made = template(endpoint({"podTemplate": {"spec": spec}}), CONFIG)["spec"]
        for one in (*made["containers"], *(made.get("initContainers") or ())):
            assert not (one.get("securityContext") or {}).get("privileged")
            assert one["image"] == IMAGE
        assert not any(volume.get("hostPath") for volume in made.get("volumes") or ())
