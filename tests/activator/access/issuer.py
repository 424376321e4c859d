"""An issuer of tokens: real keys, and a web server that publishes them well or badly."""

from __future__ import annotations

import asyncio
import base64
import functools
import hmac
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as rsa_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

Json = dict[str, Any]
ISSUER, AUDIENCE = "https://issuer.example", "zerotide"


class Key:
    """A private key and the form in which its public part is published."""

    def __init__(self, private: RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey, algorithm: str, kid: str):
        self.private, self.algorithm, self.kid = private, algorithm, kid

    def jwk(self, **members: Any) -> Json:
        """Return the public part as a JSON Web Key."""
        public = self.private.public_key()
        form: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm}.get(self.algorithm[0], ECAlgorithm)
        if self.algorithm == "EdDSA":
            form = OKPAlgorithm
        return {**form.to_jwk(public, as_dict=True), "kid": self.kid, "use": "sig", **members}

    def sign(self, headers: Json | None = None, **claims: Any) -> str:
        """Return a token; claims and headers of None are left out."""
        now = int(time.time())
        content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "team-a", "exp": now + 600, "iat": now, **claims}
        head = {"kid": self.kid, **(headers or {})}
        return raw(self.algorithm, head, content, self.private)


def raw(algorithm: str, headers: Json, claims: Json, key: Any) -> str:
    """Return a token as it is told, for what a well-behaved library refuses to write."""
    head = {"alg": algorithm, **headers}
    parts = [_part({name: value for name, value in each.items() if value is not None}) for each in (head, claims)]
    signed = ".".join(parts).encode()
    signer = jwt.PyJWS().get_algorithm_by_name(algorithm)
    signature = b"" if algorithm == "none" else signer.sign(signed, key)
    return ".".join([*parts, encoded(signature)])


def _part(content: Json) -> str:
    return encoded(json.dumps(content).encode())


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@functools.cache
def rsa(kid: str = "rsa", algorithm: str = "RS256", bits: int = 2048) -> Key:
    """Return an RSA key, always the same."""
    return Key(rsa_key(65537, bits), algorithm, kid)


@functools.cache
def ec(kid: str = "ec", algorithm: str = "ES256") -> Key:
    """Return a key on an elliptic curve, always the same."""
    return Key(ec_key(SECP384R1() if algorithm == "ES384" else SECP256R1()), algorithm, kid)


@functools.cache
def ed(kid: str = "ed") -> Key:
    """Return an Ed25519 key, always the same."""
    return Key(Ed25519PrivateKey.generate(), "EdDSA", kid)


def key_set(*keys: Key) -> str:
    """Return a JSON Web Key Set."""
    return json.dumps({"keys": [key.jwk() for key in keys]})


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Publisher:
    """A web server over TLS that publishes keys; `answer` replaces what it says."""

    def __init__(self, folder: Path, *keys: Key) -> None:
        """`folder` has a certificate for localhost."""
        self.text = key_set(*keys)
        self.answer: Answer | None = None
        self.asked: list[str] = []
        self._folder = folder
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.url = f"https://localhost:{self._runner.addresses[0][1]}/jwks"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(text=self.text, content_type="application/json")


def says(status: int = 200, text: str = "", **headers: str) -> Answer:
    """Answer one thing."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return answer


def waits(event: asyncio.Event, text: str) -> Answer:
    """Answer once an event is set."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await event.wait()
        return web.Response(text=text)

    return answer


def hmac_token(secret: bytes, claims: Json) -> str:
    """Return a token signed with a shared secret, such as the text of a public key."""
    signed = f"{_part({'alg': 'HS256', 'kid': 'rsa'})}.{_part(claims)}"
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"
