"""Drift is a difference in what is ours; what others added, and other ways to write a value, are none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.reconcile.drift import difference

OURS: dict[str, Any] = {
    "spec": {
        "replicas": 1,
        "template": {
            "metadata": {"finalizers": ["f"]},
            "spec": {
                "containers": [
                    {
                        "name": "model",
                        "args": ["--a", "b"],
                        "resources": {"limits": {"memory": "1024Mi", "cpu": "1000m"}},
                        "volumeMounts": [],
                        "securityContext": {},
                    }
                ]
            },
        },
    }
}


def live(**container: Any) -> dict[str, Any]:
    """Return what the API server made of it, with a foreign sidecar and its own defaults."""
    model = {
        "name": "model",
        "args": ["--a", "b"],
        "resources": {"limits": {"memory": "1Gi", "cpu": "1"}},
        "terminationMessagePath": "/dev/termination-log",
        **container,
    }
    spec = {"containers": [{"name": "side"}, model], "restartPolicy": "Always"}
    template = {"metadata": {"finalizers": ["f"], "labels": {"x": "y"}}, "spec": spec}
    return {"spec": {"replicas": 1, "template": template, "paused": False}}


def test_defaults_sidecars_and_spellings_are_no_drift() -> None:
    """The API server's defaults, foreign items and canonical quantities are not ours to mend."""
    assert difference(live(), OURS) is None


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (live(args=["--a"]), "spec.template.spec.containers[model].args"),
        (live(args=["--b", "a"]), "spec.template.spec.containers[model].args[0]"),
        (
            live(resources={"limits": {"memory": "2Gi", "cpu": "1"}}),
            "spec.template.spec.containers[model].resources.limits.memory",
        ),
        ({"spec": {**live()["spec"], "replicas": 2}}, "spec.replicas"),
        ({"spec": {**live()["spec"], "replicas": True}}, "spec.replicas"),
        (
            {"spec": {"replicas": 1, "template": {"metadata": {"finalizers": ["f"]}, "spec": {"containers": []}}}},
            "spec.template.spec.containers[model]",
        ),
        ({"spec": {"replicas": 1, "template": None}}, "spec.template"),
        (
            {
                "spec": {
                    **live()["spec"],
                    "template": {**live()["spec"]["template"], "metadata": {"finalizers": ["f", "g"]}},
                }
            },
            "spec.template.metadata.finalizers",
        ),
    ],
)
def test_what_differs_is_named(obj: dict[str, Any], path: str) -> None:
    """The first owned field that differs is named by its path."""
    assert difference(obj, OURS) == path


values = st.recursive(
    st.one_of(st.integers(), st.text(max_size=3), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(value=values)
def test_an_object_never_differs_from_itself(value: Any) -> None:
    """Whatever it is."""
    assert difference(value, value) is None
