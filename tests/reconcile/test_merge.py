"""The merge of a podTemplate does what kubectl's strategic merge does, and refuses what it does not know."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.reconcile.drift import difference
from zerotide.reconcile.failures import InvalidMerge
from zerotide.reconcile.merge import merge

BASE: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
    "containers": [
        {
            "name": "model",
            "image": "i",
            "args": ["--a"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [{"containerPort": 8000, "name": "http"}],
        }
    ],
    "tolerations": [{"key": "x"}],
}


@pytest.mark.parametrize(
    ("patch", "path", "expected"),
    [
        ({"securityContext": {"runAsUser": 0}}, ("securityContext",), {"runAsNonRoot": True, "runAsUser": 0}),
        ({"securityContext": {"runAsUser": None}}, ("securityContext",), {"runAsNonRoot": True}),
        ({"securityContext": {"$patch": "replace", "fsGroup": 1}}, ("securityContext",), {"fsGroup": 1}),
        ({"securityContext": {"$patch": "delete"}}, ("securityContext",), {}),
        ({"tolerations": [{"key": "y"}]}, ("tolerations",), [{"key": "y"}]),
        ({"containers": [{"name": "model", "args": ["--b"]}]}, ("containers", 0, "args"), ["--b"]),
        (
            {"containers": [{"name": "model", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]},
            ("containers", 0, "env"),
            [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
        ),
        (
            {"containers": [{"name": "model", "env": [{"name": "A", "$patch": "delete"}]}]},
            ("containers", 0, "env"),
            [{"name": "B", "value": "2"}],
        ),
        (
            {"containers": [{"name": "model", "env": [{"$patch": "replace"}, {"name": "Z", "value": "0"}]}]},
            ("containers", 0, "env"),
            [{"name": "Z", "value": "0"}],
        ),
        (
            {"containers": [{"name": "model", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}]},
            ("containers", 0, "env", 0),
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}},
        ),
        ({"containers": [{"name": "side", "image": "s"}]}, ("containers", 1), {"name": "side", "image": "s"}),
        ({"volumes": [{"name": "v", "emptyDir": {}}]}, ("volumes",), [{"name": "v", "emptyDir": {}}]),
    ],
)
def test_cases(patch: dict[str, Any], path: tuple[Any, ...], expected: Any) -> None:
    """Each kind of field merges in its way, and the base stays as it was."""
    before = copy.deepcopy(BASE)
    found: Any = merge(BASE, patch)
    for step in path:
        found = found[step]
    assert found == expected
    assert before == BASE


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"containers": [{"image": "i"}]}, r"spec\.containers: each item must have a name"),
        ({"containers": {"name": "model"}}, r"spec\.containers must not be a map"),
        ({"securityContext": [1]}, r"spec\.securityContext must be a map"),
        ({"tolerations": "x"}, r"spec\.tolerations must be a list"),
        ({"$setElementOrder/containers": []}, r"directive"),
        ({"containers": [{"name": "model", "$patch": "merge"}]}, r"spec\.containers\[model\]: the directive"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(patch: dict[str, Any], message: str) -> None:
    """The message names the field."""
    with pytest.raises(InvalidMerge, match=message):
        merge(BASE, patch)


keys = st.sampled_from(["name", "image", "env", "spec", "containers", "x"])
leaves = st.one_of(st.integers(), st.text("ab", max_size=2), st.booleans())
named = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"image": leaves}),
    unique_by=lambda item: str(item["name"]),
    max_size=3,
)
trees = st.recursive(
    st.dictionaries(st.sampled_from(["p", "q", "r"]), leaves, max_size=3),
    lambda inner: st.fixed_dictionaries({}, optional={"m": inner, "n": inner, "containers": named}),
    max_leaves=6,
)


@given(base=trees, patch=trees)
def test_laws(base: dict[str, Any], patch: dict[str, Any]) -> None:
    """An empty patch changes nothing; merging twice is merging once; what the patch says holds after it."""
    assert merge(base, {}) == base
    try:
        once = merge(base, patch)
    except InvalidMerge:
        return
    assert merge(once, patch) == once
    assert difference(once, merge({}, patch)) is None
