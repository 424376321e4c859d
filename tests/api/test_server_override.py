"""A real API server refuses an override above maxReplicas when it is written, and not because it is still there.

One that is over stays in manifests, and the API server cannot know that it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.objects import NAMESPACE, ROOT
from tests.api.server import APPLY, MERGE, Refused, Server
from tests.api.strategies import endpoint
from zerotide.api.endpoint import InferenceEndpoint

ENDPOINTS = f"{ROOT}/{NAMESPACE}/inferenceendpoints"
PATH = f"{ENDPOINTS}/lowered"
WORDS = "spec.scaling.override.minReplicas: Invalid value: scaling.override.minReplicas must not be greater"
OVER = {"minReplicas": 3, "until": "2024-01-01T00:00:00Z"}
MANIFEST = endpoint(
    # Suspended, so that an operator leaves it asleep.
    {"model": {"uri": "image:///m"}, "suspend": True, "scaling": {"maxReplicas": 3, "override": OVER}},
    "lowered",
    NAMESPACE,
)


@pytest.fixture(autouse=True)
def overridden(server: Server) -> Iterator[None]:
    """Have an endpoint whose override is long over."""
    server.call("POST", f"{ENDPOINTS}?fieldValidation=Strict", MANIFEST)
    yield
    server.call("DELETE", PATH)


def refusal(server: Server, scaling: dict[str, Any]) -> str:
    """Change `spec.scaling`, and return why the server refuses that; nothing where it does not."""
    try:
        server.call("PATCH", f"{PATH}?fieldValidation=Strict", {"spec": {"scaling": scaling}}, MERGE)
    except Refused as error:
        return str(error)
    return ""


def test_one_that_stays_does_not_hold_the_bound_up(server: Server) -> None:
    assert refusal(server, {"maxReplicas": 2}) == ""
    manifest = copy.deepcopy(MANIFEST)
    manifest["spec"]["scaling"]["maxReplicas"] = 1
    stored = server.call("PATCH", f"{PATH}?fieldManager=git&force=true&fieldValidation=Strict", manifest, APPLY)
    assert InferenceEndpoint.parse(stored).spec.scaling.max_replicas == 1
    manifest["metadata"]["name"] = "moved"
    assert server.refusal(ENDPOINTS, manifest) is None, "what one cluster holds another must take"


@pytest.mark.parametrize(
    "scaling",
    [
        {"override": {"minReplicas": 4}},
        {"maxReplicas": 2, "override": {"until": "2026-11-22T19:00:00Z"}},
        {"maxReplicas": 1, "override": {"minReplicas": 2}},
    ],
)
def test_one_that_is_written_keeps_to_the_bound(server: Server, scaling: dict[str, Any]) -> None:
    assert WORDS in refusal(server, scaling)


def test_one_that_is_added_keeps_to_the_bound(server: Server) -> None:
    assert refusal(server, {"override": None}) == ""
    assert WORDS in refusal(server, {"override": {**OVER, "minReplicas": 4}})
    assert refusal(server, {"override": OVER}) == ""
