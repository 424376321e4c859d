"""The APIKey object and the text of a key.

    zt_<name>_<secret><checksum>

`name` is the object's name: a public id that has no `_`. `secret` is 32 random bytes as 43 characters of base64url
without padding. `checksum` is the CRC-32 of everything before it as 6 digits of base 62 (0-9A-Za-z, most significant
first), so that mistyped keys, and keys that leaked into text, are recognised without a look-up. The object holds the
SHA-256 of the 32 bytes: 256 random bits need no salt and no slow hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, StrictBool, StrictInt

from zerotide.api.base import Immutable, Model, Object, Rule, Time, Unique
from zerotide.api.failures import KeyChecksumMismatch, MalformedKey
from zerotide.api.names import API_VERSION, KIND_API_KEY, PATTERN_ENDPOINT_NAME, PATTERN_KEY_NAME, is_key_name
from zerotide.api.scalars import parse_time
from zerotide.api.spec_serving import Consumer

SECRET_BYTES = 32
_ROTATE = "create a second APIKey and delete this one"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TEXT = re.compile(r"zt_([a-z0-9](?:[-a-z0-9]{0,30}[a-z0-9])?)_([A-Za-z0-9_-]{43})([0-9A-Za-z]{6})", re.ASCII)


class APIKeySpec(Model):
    """Whose key it is and what it opens."""

    digest: Annotated[
        str,
        Field(
            max_length=71,
            pattern=r"^sha256:[0-9a-f]{64}$",
            description="SHA-256 of the key's secret, as `zerotide key create` computes it. Immutable: rotate with a "
            "second object.",
        ),
        Immutable(_ROTATE),
    ]
    consumer: Annotated[
        Consumer,
        Field(description="Who pays for what the key's holder calls, a name within the namespace. Immutable."),
        Immutable(_ROTATE),
    ]
    endpoints: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=46, pattern=PATTERN_ENDPOINT_NAME)], ...] | None,
        Field(
            min_length=1,
            max_length=64,
            description="Endpoints of the namespace that the key opens. Absent: all of them.",
        ),
        Unique(),
    ] = None
    expiration_time: Annotated[Time | None, Field(description="When the key stops to work. Absent: never.")] = None
    max_in_flight: Annotated[
        StrictInt | None,
        Field(ge=1, le=100_000, description="Requests with this key at a time, held ones included. Absent: no limit."),
    ] = None
    suspend: Annotated[StrictBool, Field(description="Whether the key is refused for now.")] = False


class APIKey(Object):
    """A key of one consumer to the endpoints of one namespace; it holds a digest, never the secret."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.matches('{PATTERN_KEY_NAME}')",
            "metadata.name must be at most 32 lower-case letters, digits and `-`",
            lambda key: is_key_name(key.metadata.name),
            ".metadata.name",
        ),
    )
    api_version: Literal["zerotide.dev/v1alpha1"] = API_VERSION
    kind: Literal["APIKey"] = KIND_API_KEY
    spec: Annotated[APIKeySpec, Field(description="Whose key it is and what it opens.")]

    @property
    def consumer(self) -> str:
        """Return who pays, `namespace/name`."""
        return f"{self.metadata.namespace}/{self.spec.consumer}"

    def opens(self, namespace: str, endpoint: str) -> bool:
        """Tell whether the key may call an endpoint."""
        if namespace != self.metadata.namespace:
            return False
        return self.spec.endpoints is None or endpoint in self.spec.endpoints

    def is_live(self, now_us: int) -> bool:
        """Tell whether the key is neither suspended, nor expired, nor being deleted."""
        if self.spec.suspend or self.metadata.deletion_timestamp is not None:
            return False
        return self.spec.expiration_time is None or now_us < parse_time(self.spec.expiration_time)


class ParsedKey(NamedTuple):
    """A key taken apart; its repr hides the secret."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"ParsedKey(name={self.name!r}, secret=<hidden>)"


def format_key(name: str, secret: bytes) -> str:
    """Return the text of a key.

    Raises MalformedKey where the name is none of an APIKey or the secret has not 32 bytes.
    """
    if not is_key_name(name):
        raise MalformedKey(f"{name!r} is no name of an APIKey: at most 32 lower-case letters, digits and `-`")
    if len(secret) != SECRET_BYTES:
        raise MalformedKey(f"a key's secret has {SECRET_BYTES} bytes, not {len(secret)}")
    body = f"zt_{name}_{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"
    return body + _checksum(body)


def parse_key(text: str) -> ParsedKey:
    """Take the text of a key apart, so that its object can be found and its secret verified.

    Raises MalformedKey or KeyChecksumMismatch; the message never repeats the text.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise MalformedKey("an API key has the form zt_<name>_<49 letters, digits, `_` and `-`>")
    if _checksum(text[:-6]) != match[3]:
        raise KeyChecksumMismatch("the API key's checksum does not match: it was mistyped or cut")
    secret = base64.urlsafe_b64decode(match[2] + "=")
    if format_key(match[1], secret) != text:
        raise MalformedKey("the API key's last character of the secret holds bits that mean nothing")
    return ParsedKey(match[1], secret)


def digest(secret: bytes) -> str:
    """Return what an APIKey holds of a secret: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(secret).hexdigest()}"


def verify(key: ParsedKey, expected: str) -> bool:
    """Tell, in time that does not depend on the secret, whether a key has the digest of an APIKey."""
    return hmac.compare_digest(digest(key.secret), expected)


def _checksum(body: str) -> str:
    number, digits = binascii.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
