"""Where the API server keeps objects: paths, and what is quoted in them."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.kube.resources import DEPLOYMENTS, NODES, PODS


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (DEPLOYMENTS.path("demo", "a", "scale"), "/apis/apps/v1/namespaces/demo/deployments/a/scale"),
        (DEPLOYMENTS.path(), "/apis/apps/v1/deployments"),
        (NODES.path("ignored", "n-1"), "/api/v1/nodes/n-1"),
        (PODS.path("demo", "a b", "proxy/x y"), "/api/v1/namespaces/demo/pods/a%20b/proxy/x%20y"),
        (PODS.path("demo", "a/../b"), "/api/v1/namespaces/demo/pods/a%2F..%2Fb"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    """A name never leads out of its collection; a subresource may have parts."""
    assert path == expected


@given(name=st.text(min_size=1))
def test_whatever_a_name_holds_is_quoted(name: str) -> None:
    """As the standard library does it, whether or not that is needed."""
    assert PODS.path("demo", name) == f"/api/v1/namespaces/demo/pods/{quote(name, safe=':')}"
