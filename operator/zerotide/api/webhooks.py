"""Webhooks as Standard Webhooks 1.0.0 has them: where they are sent to, how they are signed, what became of each.

The specification: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, StrictInt

from zerotide.api.base import Model, Time
from zerotide.api.failures import InvalidSecret
from zerotide.api.spec_model import SecretRef
from zerotide.api.urls import HTTP_URL

SECRET_KEY = "secret"
"""The key of a Secret that holds what webhooks are signed with."""
_PREFIX = "whsec_"
_LEAST, _MOST = 24, 64
"""Bytes that a signing key may have."""
MOST_KEYS = 4
"""Keys that sign at once; more than one while they are changed."""


class Webhook(Model):
    """Where something is told over HTTP, and what proves that we told it."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
            description="Name by which the status tells of it.",
        ),
    ]
    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            description="Where it is sent to by POST. Its address must be a public one, by https, or one that the "
            "cluster's policy names, by https or http.",
        ),
        HTTP_URL,
    ]
    secret_ref: Annotated[
        SecretRef,
        Field(
            description="Secret in the budget's namespace whose key `secret` holds what it is signed with: whsec_ and "
            "base64 of 24 to 64 random bytes; several, with spaces between them, while they are changed. A Role must "
            "let the exporter get it."
        ),
    ]


class Delivery(Model):
    """What became of one webhook."""

    id: Annotated[str, Field(max_length=64, description="Its webhook-id, the same at each attempt.")]
    webhook: Annotated[str, Field(max_length=63, description="Name of the webhook.")]
    percent: Annotated[StrictInt, Field(ge=1, le=100, description="The threshold that it tells of.")]
    state: Annotated[
        Literal["Delivered", "Retrying", "Failed"],
        Field(description="Delivered; Retrying, which comes to an end by itself; Failed, for good."),
    ]
    attempts: Annotated[StrictInt, Field(ge=1, le=1000, description="How often it was sent.")]
    time: Annotated[Time, Field(description="When it was sent last.")]
    message: Annotated[str | None, Field(max_length=256, description="Why it was not taken. Absent: it was.")] = None


def signing_keys(text: str) -> tuple[bytes, ...]:
    """Read keys with white space between them. Raises InvalidSecret, which repeats none of them."""
    words = text.split()
    if not 1 <= len(words) <= MOST_KEYS:
        raise InvalidSecret(f"it must hold from 1 to {MOST_KEYS} keys with spaces between them, not {len(words)}")
    keys = []
    for number, word in enumerate(words, 1):
        try:
            key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
        except ValueError as error:
            raise InvalidSecret(f"its key {number} is not {_PREFIX} and base64") from error
        if not _LEAST <= len(key) <= _MOST:
            raise InvalidSecret(f"its key {number} has {len(key)} bytes; give from {_LEAST} to {_MOST} random ones")
        keys.append(key)
    return tuple(keys)


def signed(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook that is sent at an instant, in seconds since the epoch; `id` holds no dot."""
    content = f"{id}.{timestamp}.".encode() + body
    made = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{each}" for each in made),
    }
