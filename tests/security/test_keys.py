"""A wrong key costs the gateway the same, however nearly it is right."""

from __future__ import annotations

import hmac
import secrets
from typing import Any

import pytest

from zerotide.activator.admission import callers
from zerotide.activator.admission.callers import Keyring
from zerotide.api.apikey import APIKey, digest, format_key

NOW_US = 1_790_000_000_000_000


def key(name: str, secret: bytes, namespace: str = "demo") -> APIKey:
    """Return a key as the API server has it."""
    return APIKey.parse(
        {
            "apiVersion": "zerotide.dev/v1alpha1",
            "kind": "APIKey",
            "metadata": {"namespace": namespace, "name": name, "uid": name},
            "spec": {"digest": digest(secret), "consumer": "team-a"},
        }
    )


def test_the_same_work_for_keys_that_are_and_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash of the secret and one comparison in constant time, for a name that is known and for one that is not."""
    done: list[str] = []

    def hashed(secret: bytes) -> str:
        done.append("hash")
        return digest(secret)

    def compared(one: Any, other: Any) -> bool:
        done.append(f"compare {len(one)} {len(other)}")
        return hmac.compare_digest(one, other)

    keyring, right = Keyring(), secrets.token_bytes(32)
    keyring.set(key("known", right))
    monkeypatch.setattr(callers, "digest", hashed)
    monkeypatch.setattr(callers, "hmac", Watched(compared))
    work = []
    for name, secret in (("known", secrets.token_bytes(32)), ("unknown", secrets.token_bytes(32)), ("known", right)):
        caller = keyring.find(format_key(name, secret), NOW_US)
        assert (caller is not None) == (secret == right)
        work.append(list(done))
        done.clear()
    assert work[0] == work[1] == work[2] == ["hash", "compare 71 71"]


class Watched:
    """The module `hmac`, as far as it is used."""

    def __init__(self, compare_digest: Any) -> None:
        self.compare_digest = compare_digest
