"""`spec.access`: who may call."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt

from zerotide.api.base import Matches, Model, Name, Rule, Unique
from zerotide.api.urls import HTTPS_URL

_WORD = Matches(r"^[!-~]+$", "be printable ASCII without spaces")


class ConfigMapKey(Model):
    """One key of a ConfigMap in the endpoint's namespace."""

    name: Annotated[Name, Field(description="Name of the ConfigMap.")]
    key: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key within the ConfigMap."),
    ] = "jwks.json"


class JWT(Model):
    """Whose tokens open the endpoint."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.jwksURL) != has(self.jwksConfigMap)",
            "must have exactly one of jwksURL and jwksConfigMap",
            lambda jwt: (jwt.jwks_url is None) != (jwt.jwks_config_map is None),
        ),
    )
    issuer: Annotated[
        str,
        Field(min_length=1, max_length=512, description="What a token's claim `iss` must be, to the letter."),
        _WORD,
    ]
    audiences: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256), _WORD], ...],
        Field(min_length=1, max_length=8, description="Audiences of which a token's claim `aud` must name one."),
        Unique(),
    ]
    jwks_url: Annotated[
        str | None,
        Field(
            alias="jwksURL",
            min_length=1,
            max_length=1024,
            description="Where the issuer publishes its keys, as a JSON Web Key Set. Its address must be a public one, "
            "or one that the cluster's policy allows.",
        ),
        HTTPS_URL,
    ] = None
    jwks_config_map: Annotated[
        ConfigMapKey | None,
        Field(description="A ConfigMap that holds the issuer's keys, as a JSON Web Key Set, in place of a URL."),
    ] = None
    consumer_claim: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            description="Claim that names who pays, a consumer of the endpoint's own namespace; its value must not be "
            "empty and must not hold a `/`.",
        ),
        _WORD,
    ] = "sub"


class Access(Model):
    """Who may call."""

    auth: Annotated[
        Literal["APIKey", "JWT", "Open"],
        Field(
            description="APIKey: callers show a key of an APIKey object. JWT: a token of the issuer in `jwt`. Open: "
            "anyone who reaches the gateway."
        ),
    ] = "APIKey"
    jwt: Annotated[
        JWT | None, Field(description="Whose tokens open the endpoint; given if, and only if, `auth` is JWT.")
    ] = None
    max_in_flight_per_consumer: Annotated[
        StrictInt, Field(ge=1, le=100_000, description="Requests of one consumer at a time, held ones included.")
    ] = 100
