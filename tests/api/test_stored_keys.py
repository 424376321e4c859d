"""A real API server takes and refuses the same keys as the type does, and keeps whose they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.objects import NAMESPACE, ROOT, accepts, create, refusal
from tests.api.server import MERGE, Refused, Server
from zerotide.api.apikey import APIKey


def key(**spec: Any) -> dict[str, Any]:
    """Return an APIKey with these fields beside the required ones."""
    return {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "APIKey",
        "metadata": {"name": "ci", "namespace": "default"},
        "spec": {"digest": "sha256:" + "0" * 64, "consumer": "team-a", **spec},
    }


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"endpoints": ["a", "b"]},
        {"endpoints": []},
        {"endpoints": ["a", "a"]},
        {"endpoints": ["A"]},
        {"digest": "sha256:0"},
        {"consumer": "a/b"},
        {"consumer": ""},
        {"consumer": "a" * 64},
        {"expirationTime": "2027-01-01T00:00:00Z"},
        {"expirationTime": "2027-01-01T00:00:00.123+02:00"},
        {"expirationTime": "tomorrow"},
        {"maxInFlight": 0},
        {"maxInFlight": 1, "suspend": True},
        {"secret": "x"},
    ],
    ids=json.dumps,
)
def test_the_type_and_the_server_agree_about_keys(server: Server, spec: dict[str, Any]) -> None:
    said = refusal(server, key(**spec))
    assert (said is None) == accepts(APIKey, key(**spec)), said or "the server accepts it"


@pytest.mark.parametrize("name", ["a.b", "a" * 33])
def test_names_that_a_key_could_not_carry_are_refused(server: Server, name: str) -> None:
    said = refusal(server, {**key(), "metadata": {"name": name}})
    assert said is not None
    assert "metadata.name must be at most 32" in said


def test_a_key_never_changes_its_digest_or_its_consumer(server: Server) -> None:
    create(server, key(), keep=True)
    path = f"{ROOT}/{NAMESPACE}/apikeys/ci?dryRun=All"
    for change in ({"digest": "sha256:" + "1" * 64}, {"consumer": "team-b"}):
        with pytest.raises(Refused, match="must not change: create a second APIKey"):
            server.call("PATCH", path, {"spec": change}, MERGE)
    changed = server.call("PATCH", path, {"spec": {"suspend": True}}, MERGE)
    assert changed["spec"]["suspend"] is True
