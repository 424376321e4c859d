"""What `zerotide get` tells of an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from zerotide.api.scalars import parse_time
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


def test_what_it_cost_and_what_was_burnt() -> None:
    """In the currency of the book, with what starts that failed have used up."""
    failed = {"count": 2, "since": "2026-11-25T10:00:00Z", "reason": "CrashLooping"}
    cost = {
        "currency": "EUR",
        "month": "2026-11",
        "monthToDate": "12.500000",
        "day": "2026-11-25",
        "dayToDate": "0.250000",
        "lastColdStart": "0.084000",
        "perMillionTokens": "0.540000",
        "failedStarts": {"acceleratorSeconds": 84, "amount": "0.117600"},
    }
    obj = {
        "metadata": {"name": "m", "namespace": "demo"},
        "spec": {"model": {"uri": "image:///m"}},
        "status": {"failedStarts": failed, "cost": cost},
    }
    told = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in describe(obj, 0)}
    assert told["Cost"] == (
        "12.500000 EUR in 2026-11, 0.250000 on 2026-11-25, 0.084000 for the last cold start, "
        "0.540000 per million tokens"
    )
    assert told["Failed starts"] == (
        "2 since 2026-11-25T10:00:00Z: CrashLooping; used up 84 accelerator-seconds, 0.117600 EUR"
    )
    assert "Cost" not in {line.partition(":")[0].strip() for line in describe({**obj, "status": {}}, 0)}


def test_what_is_known_of_the_weights() -> None:
    """No more than what the runtime told."""
    obj: dict[str, Any] = {"metadata": {"name": "m", "namespace": "demo"}, "spec": {"model": {"uri": "image:///m"}}}

    def told(**model: Any) -> list[str]:
        lines = describe({**obj, "status": {"model": {"name": "m", **model}}}, 0)
        return [line.split(maxsplit=1)[1] for line in lines if line.startswith("Weights:")]

    assert told() == []
    assert told(bytes=538_100_000, digest="sha256:ab") == ["538 MB, sha256:ab"]
    assert told(revision="12fd25f") == ["revision 12fd25f"]


def test_an_override_that_is_over_says_so() -> None:
    """It may stay in the spec, without effect."""
    until = "2026-11-22T18:00:00Z"
    scaling = {"maxReplicas": 2, "override": {"minReplicas": 2, "until": until}}
    spec = {"model": {"uri": "image:///m"}, "scaling": scaling}
    kind = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint"}
    obj = {**kind, "metadata": {"name": "m", "namespace": "demo"}, "spec": spec}

    def told(now_us: int) -> str:
        [line] = [line for line in describe(obj, now_us) if line.startswith("Override:")]
        return line.split(maxsplit=1)[1]

    until_us = parse_time(until)
    assert told(until_us - 1) == "at least 2 until 2026-11-22T18:00:00Z"
    assert told(until_us) == "at least 2 until 2026-11-22T18:00:00Z, which is over"
