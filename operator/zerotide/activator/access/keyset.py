"""The public keys of an issuer, as a JSON Web Key Set (RFC 7517) has them.

Each key is bound to its algorithms when it is read: what a token says of its own algorithm only chooses among these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from zerotide.activator.failures import KeysMalformed, KeysMissing, KeyUnknown

MOST_KEYS = 64
SHORTEST_RSA, LONGEST_RSA = 2048, 8192
"""Bits of an RSA key: below it is weak, beyond it costs more than a caller is worth."""
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALGORITHMS = frozenset((*_RSA, *(name for names in _CURVES.values() for name in names)))
"""The ways to sign that are taken, each with a private key: never none, never a shared secret."""
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class KeySet:
    """Keys by their id and algorithm."""

    def __init__(self, keys: Mapping[tuple[str | int, str], PyJWK], text: bytes) -> None:
        """`keys` that have no id have their place in the set instead, so that a choice among them is seen as one."""
        self._keys = keys
        self.text = text
        """What it was read from."""

    def pick(self, kid: str | None, algorithm: str) -> PyJWK:
        """Return the key that a token names; one that names none must leave no choice. Raises KeyUnknown."""
        if kid is not None:
            key = self._keys.get((kid, algorithm))
            if key is None:
                raise KeyUnknown(f"the issuer has no key {kid[:64]!r} for {algorithm}")
            return key
        fitting = [key for (_, each), key in self._keys.items() if each == algorithm]
        if len(fitting) != 1:
            raise KeyUnknown(f"the token names no key, and the issuer has {len(fitting)} for {algorithm}")
        return fitting[0]


def read_keys(text: bytes) -> KeySet:
    """Read a key set; keys of other kinds and for other uses are passed over.

    Raises KeysMalformed where it is none or holds too many keys, KeysMissing where it holds none that can be used.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeysMalformed(f"the key set is not JSON: {error}") from error
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise KeysMalformed("the key set has no list `keys`")
    if len(listed) > MOST_KEYS:
        raise KeysMalformed(f"the key set has more than {MOST_KEYS} keys")
    keys: dict[tuple[str | int, str], PyJWK] = {}
    for place, item in enumerate(listed):
        for kid, algorithm, key in _read(item) if isinstance(item, dict) else ():
            keys.setdefault((place if kid is None else kid, algorithm), key)
    if not keys:
        raise KeysMissing("the key set has no public key of RSA (2048 bits or more), EC or Ed25519")
    return KeySet(keys, text)


def _read(item: Mapping[str, Any]) -> Iterator[tuple[str | None, str, PyJWK]]:
    kty, kid = item.get("kty"), item.get("kid")
    names = _PUBLIC.get(kty) if isinstance(kty, str) else None
    if names is None or (kid is not None and not isinstance(kid, str)) or not _is_for_checking(item):
        return
    # Only the public members: what is private or was made up must not change how a key is read.
    plain = {"kty": kty, **{name: item.get(name) for name in names}}
    told = item.get("alg")
    for algorithm in _RSA if kty == "RSA" else _CURVES.get((str(kty), str(item.get("crv"))), ()):
        if told is not None and told != algorithm:
            continue
        try:
            key = PyJWK(plain, algorithm)
        except (PyJWTError, ValueError, TypeError, OverflowError):
            return
        if kty == "RSA" and not SHORTEST_RSA <= key.key.key_size <= LONGEST_RSA:
            return
        yield kid, algorithm, key


def _is_for_checking(item: Mapping[str, Any]) -> bool:
    """Tell whether a key may check signatures, and is not one whose secret was published."""
    operations = item.get("key_ops")
    allowed = operations is None or (isinstance(operations, list) and "verify" in operations)
    return item.get("use") in (None, "sig") and allowed and "d" not in item
