"""What `zerotide get` tells of an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from zerotide.cli.endpoints import describe

JWT = {"issuer": "https://issuer.example", "audiences": ["a"], "jwksURL": "https://issuer.example/keys"}


@pytest.mark.parametrize(
    ("access", "told"),
    [({}, "APIKey"), ({"auth": "Open"}, "Open"), ({"auth": "JWT", "jwt": JWT}, "JWT of https://issuer.example")],
)
def test_who_may_call(access: dict[str, Any], told: str) -> None:
    """By which kind of credential, and whose."""
    obj = {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": "m", "namespace": "demo", "creationTimestamp": "2026-11-22T10:00:00Z"},
        "spec": {"model": {"uri": "image:///m"}, "access": access},
    }
    [line] = [line for line in describe(obj, 0) if line.strip().startswith("Access")]
    assert line.split(maxsplit=1)[1] == told
