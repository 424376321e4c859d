"""Digests tell a changed spec from a changed rendering."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reconcile.helpers import CONFIG, endpoint
from zerotide.api.conditions import Reason
from zerotide.reconcile import rendering
from zerotide.reconcile.config import Config
from zerotide.reconcile.devices import devices
from zerotide.reconcile.rendering import Rendering, render_all


def rendered(spec: dict[str, Any] | None = None, config: Config = CONFIG) -> Rendering:
    """Return the only rendering of an endpoint without alternatives."""
    made = endpoint(spec)
    (one,) = render_all(made, config, devices(made, {}))
    return one


@pytest.mark.parametrize(
    "spec",
    [
        {"scaling": {"maxReplicas": 3, "pinnedReplicas": 1}},
        {"hold": {"maxRequests": 1}},
        {"suspend": True},
        {"access": {"maxInFlightPerConsumer": 1}},
        {"request": {"timeout": "1m", "maxBodyBytes": "16384Ki"}},  # the default in other words
        {"runtime": {"port": 8000}},  # the default, written out
        {"runtime": {"readiness": {"path": "/health"}}},  # it once was the schema's default, and may be stored
    ],
)
def test_what_pods_are_not_made_of_changes_no_digest(spec: dict[str, Any]) -> None:
    """Scaling an endpoint must not roll it, nor must a default that is written out."""
    assert rendered(spec) == rendered()


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"uri": "image:///n"}},
        {"model": {"uri": "image:///m", "name": "other"}},
        {"runtime": {"env": [{"name": "A", "value": "1"}]}},
        {"runtime": {"readiness": {"path": "/up"}}},
        {"runtime": {"readiness": {"type": "Token"}}},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"podTemplate": {"spec": {"priorityClassName": "x"}}},
        {"drain": {"timeout": "20m"}},
        {"request": {"maxBodyBytes": "1Mi"}},
    ],
)
def test_what_pods_are_made_of_does(spec: dict[str, Any]) -> None:
    """Both digests change."""
    one, other = rendered(), rendered(spec)
    assert one.spec_digest != other.spec_digest and one.digest != other.digest


def test_an_engine_that_is_not_told_the_largest_body_is_not_rolled_for_it() -> None:
    """The activators hold the limit before every engine."""
    vllm = {"runtime": {"engine": "vllm"}}
    small = {**vllm, "request": {"maxBodyBytes": "1Mi"}}
    assert rendered(vllm) == rendered(small)


def test_an_upgrade_changes_the_rendering_alone() -> None:
    """Here the image that the installation names."""
    one = rendered()
    other = rendered(config=replace(CONFIG, images={"zerotide": "runtime:2"}))
    assert one.spec_digest == other.spec_digest and one.digest != other.digest
    assert one.template is not None
    assert one.template["metadata"]["annotations"]["zerotide.dev/spec-digest"] == one.spec_digest


def test_an_error_is_part_of_the_answer() -> None:
    """With the reason under which it is reported."""
    bad = rendered({"podTemplate": {"spec": {"hostPID": True}}})
    assert bad.template is None and bad.error is not None and bad.error.reason is Reason.POD_REFUSED


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=15,
)


@given(document=st.dictionaries(st.text(max_size=4), documents, max_size=5))
def test_digests_are_made_of_the_text_that_they_always_were(document: dict[str, Any]) -> None:
    """Whatever is in a spec: another digest would restart every model."""
    assert rendering._text(document) == json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
