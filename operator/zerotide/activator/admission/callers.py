"""Who calls: API keys are checked before the body is read and before anything is looked up or woken.

Tokens are checked in `activator.access`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zerotide.activator.access.trust import Trust
from zerotide.api.apikey import APIKey, digest, parse_key
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.failures import InvalidKey
from zerotide.api.scalars import parse_time

REMEMBERED = 10_000
_NOBODY = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a valid key or token."""

    namespace: str
    key_id: str
    """Empty for a token's."""
    consumer: str
    endpoints: frozenset[str] | None
    """Names that it opens in its namespace, None for all of its kind."""
    max_in_flight: int | None
    until_us: int | None = None
    """When the credential expires, in microseconds since the epoch, None where it does not."""
    trust: Trust | None = None
    """Whose tokens it was one of, None for a key: keys and tokens open each their own endpoints."""

    def may_call(self, namespace: str, name: str, trust: Trust | None) -> bool:
        """Tell whether the credential opens an endpoint, which has this trust in tokens."""
        if namespace != self.namespace or trust != self.trust:
            return False
        return self.endpoints is None or name in self.endpoints


class Keyring:
    """All APIKeys, by name; two namespaces may use one name, so a name leads to several keys."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, APIKey]] = {}
        self._verified: dict[bytes, APIKey] = {}

    def set(self, key: APIKey) -> None:
        """Add a key, or the newer version of one."""
        self._verified.clear()
        self._keys.setdefault(key.metadata.name, {})[key.metadata.namespace] = key

    def remove(self, namespace: str, name: str) -> None:
        """Forget a key: from now on it opens nothing."""
        self._verified.clear()
        keys = self._keys.get(name, {})
        keys.pop(namespace, None)
        if not keys:
            self._keys.pop(name, None)

    def find(self, text: str, now_us: int) -> Caller | None:
        """Return who holds a key, None where it is none, unknown, suspended, expired or revoked.

        The secret is hashed, and compared in constant time, whether the key is known or not. What was verified is
        remembered by its hash until any key changes.
        """
        mark = hashlib.sha256(text.encode("latin-1", "replace")).digest()
        key = self._verified.get(mark) or self._verify(text, mark)
        return _caller(key) if key is not None and key.is_live(now_us) else None

    def _verify(self, text: str, mark: bytes) -> APIKey | None:
        try:
            parsed = parse_key(text)
        except InvalidKey:
            return None
        presented = digest(parsed.secret)
        found = None
        for key in self._keys.get(parsed.name, {}).values() or (None,):
            expected = key.spec.digest if key is not None else _NOBODY
            if hmac.compare_digest(presented, expected) and key is not None:
                found = key
        if found is not None and len(self._verified) < REMEMBERED:
            self._verified[mark] = found
        return found


def credential(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the key or token that a request carries: as a bearer, or `x-api-key`; empty where there is none."""
    values: Mapping[bytes, bytes] = dict(reversed(list(headers)))
    scheme, _, token = values.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return values.get(b"x-api-key", b"").decode("latin-1").strip()


def is_key(text: str) -> bool:
    """Tell whether a credential is meant to be an API key."""
    return text.startswith("zt_")


def refuse(*, unnamed: bool = False) -> Rejection:
    """Return the answer to a caller without a valid credential; it never says what was wrong with it.

    `unnamed` tells that nothing but the body could name the endpoint.
    """
    return Rejection(
        ErrorCode.INVALID_API_KEY,
        "a valid API key or token is needed: send it as `Authorization: Bearer …`"
        + ("; a token is for an endpoint that host, path or X-Zerotide-Endpoint names" if unnamed else ""),
    )


def _caller(key: APIKey) -> Caller:
    spec = key.spec
    return Caller(
        namespace=key.metadata.namespace,
        key_id=key.metadata.name,
        consumer=key.consumer,
        endpoints=None if spec.endpoints is None else frozenset(spec.endpoints),
        max_in_flight=spec.max_in_flight,
        until_us=parse_time(spec.expiration_time) if spec.expiration_time is not None else None,
    )
