"""Send one webhook once: read what signs it, look where its URL leads, and say why it was not taken."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from zerotide.api.egress import Egress
from zerotide.api.failures import InvalidSecret
from zerotide.api.names import SERVICE_ACCOUNT_EXPORTER
from zerotide.api.scalars import SECOND
from zerotide.api.webhooks import SECRET_KEY, Webhook, signed, signing_keys
from zerotide.exporter.errors import (
    ReceiverForbidden,
    ReceiverGone,
    ReceiverRefused,
    ReceiverUnreachable,
    SecretUnusable,
)
from zerotide.kube import Client, Clock, outgoing
from zerotide.kube.errors import SecretUnreadable
from zerotide.kube.secrets import read_secret

TIMEOUT_S = 15.0
"""Seconds for one attempt; the specification recommends 15 to 30."""
LONGEST_WAIT_S = 3600
"""The longest that a receiver may ask to be left alone for."""
_HEADERS = {"Content-Type": "application/json"}


class Sender:
    """Send webhooks."""

    def __init__(self, client: Client, egress: Egress, authorities: Path | None, clock: Clock) -> None:
        """`authorities` is a file of certificates that are trusted beside those of the system."""
        self._client, self._egress, self._authorities, self._clock = client, egress, authorities, clock

    async def send(self, namespace: str, webhook: Webhook, id: str, body: bytes) -> None:
        """Return once it is taken. Raises the kinds of DeliveryFailed."""
        keys = await self._keys(namespace, webhook.secret_ref.name)
        headers = signed(keys, id, self._clock.now_us() // SECOND, body)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._post(webhook.url, headers, body)
        except TimeoutError as error:
            raise ReceiverUnreachable(f"no answer within {TIMEOUT_S:g} s") from error

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> None:
        try:
            tls = await asyncio.to_thread(outgoing.trusting, self._authorities)
        except OSError as error:
            raise ReceiverUnreachable(f"the authorities in {self._authorities} cannot be read: {error}") from error
        # Without TLS nobody proves that it is the receiver: only where the policy knows the network.
        plain = urlsplit(url).scheme != "https"
        try:
            async with (
                outgoing.session(self._egress, tls, _HEADERS, named_only=plain) as session,
                session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                _judge(response.status, response.headers.get("Retry-After", ""))
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, outgoing.AddressForbidden):
                more = "; public addresses take https only" if plain else ""
                raise ReceiverForbidden(f"{error.os_error}{more}") from error
            # The error's own words name the address, which whoever wrote a name need not learn.
            raise ReceiverUnreachable(f"no connection: {type(error).__name__}") from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise ReceiverUnreachable(f"no answer: {type(error).__name__}") from error

    async def _keys(self, namespace: str, name: str) -> tuple[bytes, ...]:
        try:
            held = await read_secret(self._client, namespace, name, SECRET_KEY, SERVICE_ACCOUNT_EXPORTER)
        except SecretUnreadable as error:
            raise SecretUnusable(str(error)) from error
        if held is None:
            raise SecretUnusable(f"Secret {name} has no key {SECRET_KEY}")
        try:
            return signing_keys(base64.b64decode(held, validate=True).decode("ascii"))
        except ValueError as error:
            raise SecretUnusable(f"Secret {name}, key {SECRET_KEY}: it is no text") from error
        except InvalidSecret as error:
            raise SecretUnusable(f"Secret {name}, key {SECRET_KEY}: {error}") from error


def _judge(status: int, retry_after: str) -> None:
    """Return where an answer means that it was taken."""
    if 200 <= status < 300:
        return
    if status == 410:
        raise ReceiverGone("it answered 410: it takes no webhooks any more")
    if 300 <= status < 400:
        raise ReceiverRefused(f"it answered {status}; no redirect is followed, give the URL where it leads")
    asked = int(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9 else 0
    raise ReceiverRefused(f"it answered {status}", wait_s=min(asked, LONGEST_WAIT_S))
