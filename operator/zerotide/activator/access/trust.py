"""Whose tokens open an endpoint, and where the keys are that prove them."""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.api.spec_access import Access


@dataclass(frozen=True, slots=True)
class KeysUrl:
    """Keys that their issuer publishes."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class KeysConfigMap:
    """Keys that a ConfigMap holds."""

    namespace: str
    name: str
    key: str

    def __str__(self) -> str:
        return f"ConfigMap {self.namespace}/{self.name}, key {self.key}"


Source = KeysUrl | KeysConfigMap


@dataclass(frozen=True, slots=True)
class Trust:
    """The tokens that open endpoints of one namespace."""

    namespace: str
    issuer: str
    audiences: frozenset[str]
    source: Source
    consumer_claim: str


def trust_of(access: Access, namespace: str) -> Trust | None:
    """Return whose tokens open an endpoint, None where none do."""
    jwt = access.jwt
    if access.auth != "JWT" or jwt is None:
        return None
    held = jwt.jwks_config_map
    source = KeysConfigMap(namespace, held.name, held.key) if held is not None else KeysUrl(jwt.jwks_url or "")
    return Trust(namespace, jwt.issuer, frozenset(jwt.audiences), source, jwt.consumer_claim)
