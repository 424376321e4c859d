"""A signed token (RFC 7519): what it says, and whether that is what an endpoint asks for.

The signature is checked by PyJWT against a key that is bound to one algorithm; everything else is decided here, by an
injected clock, and what costs little is checked first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from jwt import PyJWK, PyJWS
from jwt.exceptions import PyJWTError

from zerotide.activator.access.keyset import ALGORITHMS
from zerotide.activator.access.trust import Trust
from zerotide.activator.failures import (
    AlgorithmRefused,
    ConsumerUnfit,
    SignatureWrong,
    TokenExpired,
    TokenMalformed,
    TokenNotYetValid,
    WrongAudience,
    WrongIssuer,
)
from zerotide.api.scalars import SECOND

LONGEST = 8192
LEEWAY_US = 30 * SECOND
"""How far our clock and an issuer's may be apart."""
LONGEST_CONSUMER = 253
_FAR = 1 << 53
"""Beyond this a number of seconds is no time."""
_jws = PyJWS(algorithms=sorted(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says; nothing of it is true before `prove` returned."""

    algorithm: str
    kid: str | None
    claims: dict[str, Any]
    signed: bytes
    """What the signature is of."""
    signature: bytes

    def check(self, trust: Trust, now_us: int) -> int:
        """Return until when it holds, in microseconds since the epoch, leeway included.

        Raises WrongIssuer, WrongAudience, TokenExpired or TokenNotYetValid where it is not what is asked for.
        """
        if self.claims.get("iss") != trust.issuer:
            raise WrongIssuer("the token is of another issuer")
        named = self.claims.get("aud")
        audiences = named if isinstance(named, list) else [named]
        if not any(isinstance(each, str) and each in trust.audiences for each in audiences):
            raise WrongAudience("the token is meant for others")
        expires_us, begins_us = _time_us(self.claims.get("exp")), _time_us(self.claims.get("nbf", 0))
        if expires_us is None or now_us >= expires_us + LEEWAY_US:
            raise TokenExpired("the token has expired, or does not say when it does")
        if begins_us is None or now_us < begins_us - LEEWAY_US:
            raise TokenNotYetValid("the token is not valid yet")
        return expires_us + LEEWAY_US

    def prove(self, key: PyJWK) -> None:
        """Check the signature. Raises SignatureWrong."""
        if key.algorithm_name != self.algorithm:
            raise SignatureWrong(f"the key is for {key.algorithm_name}, the token says {self.algorithm}")
        too_short = key.Algorithm.check_key_length(key.key)
        if too_short:
            raise SignatureWrong(f"the key is too short: {too_short}")
        if not key.Algorithm.verify(self.signed, key.key, self.signature):
            raise SignatureWrong("the signature is wrong")

    def consumer(self, claim: str) -> str:
        """Return who pays. Raises ConsumerUnfit."""
        value = self.claims.get(claim)
        if not isinstance(value, str) or not value or "/" in value or not value.isprintable():
            raise ConsumerUnfit(f"the claim {claim!r} is no text, empty, or has a `/` or signs that cannot be shown")
        if len(value) > LONGEST_CONSUMER:
            raise ConsumerUnfit(f"the claim {claim!r} is longer than {LONGEST_CONSUMER} characters")
        return value


def read_token(text: str) -> Token:
    """Read a token without believing it. Raises TokenMalformed, or AlgorithmRefused for one that is not signed well."""
    if len(text) > LONGEST:
        raise TokenMalformed(f"the token is longer than {LONGEST} characters")
    if text.count(".") != 2 or not text.isascii():
        raise TokenMalformed("the token has not three parts")
    try:
        parts = _jws.decode_complete(text, options={"verify_signature": False})
        claims = json.loads(parts["payload"])
    except (PyJWTError, ValueError, RecursionError) as error:
        raise TokenMalformed(f"the token cannot be read: {error}") from error
    if not isinstance(claims, dict):
        raise TokenMalformed("the token cannot be read: its payload is no JSON object")
    header = parts["header"]
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise AlgorithmRefused("the token is not signed, or not with a private key")
    if "crit" in header or "b64" in header:
        raise TokenMalformed("the token asks for extensions")
    signed = text.rpartition(".")[0].encode()
    return Token(algorithm, header.get("kid"), claims, signed, parts["signature"])


def _time_us(value: Any) -> int | None:
    """Return a NumericDate in microseconds, None for what is no time."""
    # Written so that what is not a number is beyond the bounds too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_FAR <= value <= _FAR:
        return None
    return int(value * SECOND)
