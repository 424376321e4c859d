"""Ask a URL in an endpoint's place: with its own token, nothing of the client's, and an eye on where it leads.

What serves there is nobody's replica, so it costs no replica's time and is billed to nobody. An answer that says that
the URL or its token is at fault, or that it is overloaded, is none: then the request is as without a fallback.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp

from zerotide.activator.admission.naming import Name
from zerotide.activator.admission.profile import Abroad
from zerotide.activator.failures import AbroadUnavailable, ResponseTruncated
from zerotide.activator.traffic.relay import Relay
from zerotide.activator.traffic.visit import Visit
from zerotide.api.egress import Egress
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.names import SERVICE_ACCOUNT_ACTIVATOR
from zerotide.kube import Client, outgoing
from zerotide.kube.errors import SecretUnreadable
from zerotide.kube.secrets import read_secret

log = logging.getLogger(__name__)

CONNECT_S = 10.0
"""Seconds for a connection; the rest of the time is the answer's."""
KEPT_S = 60.0
"""Seconds for which tokens, and whose certificates are believed, are kept, and the same failure is not logged again."""
AT_ONCE = 256
"""Requests that are under way at a time, in all."""
SECRET_KEY = "token"
_NO_ANSWERS = frozenset((401, 402, 403, 404, 407, 408, 429))
_SENT = (b"content-type", b"accept")
_KEPT_BACK = (b"set-cookie", b"alt-svc", b"strict-transport-security")


class _Valve:
    """Makes the reading of an answer wait while its client does not read."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pause(self) -> None:
        """Stop reading."""
        self.open.clear()

    def resume(self) -> None:
        """Read again."""
        self.open.set()


class Envoy:
    """Ask URLs."""

    def __init__(self, client: Client, egress: Egress, authorities: Path | None, now: Callable[[], float]) -> None:
        """`authorities` is a file of certificates that are trusted beside those of the system."""
        self._client, self._egress, self._authorities, self._now = client, egress, authorities, now
        self._tokens: dict[Name, tuple[str, float]] = {}
        self._tls: tuple[ssl.SSLContext, float] | None = None
        self._told: dict[str, float] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def ask(self, visit: Visit, where: Abroad, timeout: float) -> None:
        """Have a request answered, within so many seconds.

        Raises AbroadUnavailable where nothing of an answer was sent, a Rejection where it broke off.
        """
        if self._slots.locked():
            raise AbroadUnavailable(f"{AT_ONCE} requests are under way to fallbacks already")
        async with self._slots:
            try:
                async with asyncio.timeout(timeout):
                    await self._ask(visit, where)
            except TimeoutError as error:
                if not visit.exchange.started:
                    raise AbroadUnavailable(f"no answer within {timeout:g} s") from error
                raise Rejection(ErrorCode.UPSTREAM_TIMEOUT, f"the answer took longer than {timeout:g} s") from error

    def complain(self, endpoint: str, error: AbroadUnavailable) -> None:
        """Say in the log that a fallback could not serve, once in a while."""
        now, words = self._now(), f"{endpoint}: {error}"
        self._told = {known: at for known, at in self._told.items() if now - at < KEPT_S}
        if words not in self._told:
            self._told[words] = now
            log.warning("a fallback could not serve", extra={"endpoint": endpoint, "error": str(error)})

    async def _ask(self, visit: Visit, where: Abroad) -> None:
        headers, tls = await self._headers(visit, where), await self._trusting()
        relay, valve = Relay(visit, lambda: None), _Valve()
        try:
            async with (
                outgoing.session(self._egress, tls, headers) as session,
                session.post(
                    where.url + visit.target,
                    data=visit.payload.body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S),
                ) as response,
            ):
                _judge(response.status)
                told = [(name.lower(), value) for name, value in response.raw_headers]
                kept = [(name, value) for name, value in told if name not in _KEPT_BACK]
                relay.head(response.status, kept, response.content_length)
                visit.exchange.flow = valve
                async for piece in response.content.iter_any():
                    relay.data(piece)
                    await valve.open.wait()
                relay.end()
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, outgoing.AddressForbidden):
                raise AbroadUnavailable(str(error.os_error)) from error
            raise AbroadUnavailable(f"no connection: {type(error).__name__}") from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            if not relay.status:
                raise AbroadUnavailable(f"no answer: {type(error).__name__}") from error
            relay.lost(ResponseTruncated("the fallback broke off"))
            raise Rejection(ErrorCode.UPSTREAM_LOST, "the fallback was lost while it answered") from error
        finally:
            visit.exchange.flow = None
            relay.close()

    async def _headers(self, visit: Visit, where: Abroad) -> dict[str, str]:
        """Return what is sent beside the body: nothing that says who the client is."""
        request = visit.exchange.request
        headers = {name.decode(): value for name in _SENT if (value := request.get(name))}
        headers["X-Request-Id"] = visit.shown_id
        if where.secret:
            headers["Authorization"] = f"Bearer {await self._token(Name(where.namespace, where.secret))}"
        return headers

    async def _trusting(self) -> ssl.SSLContext:
        """Return whose certificates are believed; read again now and then, since the files change."""
        if self._tls is None or self._now() - self._tls[1] > KEPT_S:
            try:
                self._tls = (await asyncio.to_thread(outgoing.trusting, self._authorities), self._now())
            except OSError as error:
                raise AbroadUnavailable(f"the authorities in {self._authorities} cannot be read: {error}") from error
        return self._tls[0]

    async def _token(self, name: Name) -> str:
        known = self._tokens.get(name)
        if known is not None and self._now() - known[1] < KEPT_S:
            return known[0]
        token = await self._read(name)
        self._tokens = {each: kept for each, kept in self._tokens.items() if self._now() - kept[1] < KEPT_S}
        self._tokens[name] = (token, self._now())
        return token

    async def _read(self, name: Name) -> str:
        try:
            held = await read_secret(self._client, name.namespace, name.name, SECRET_KEY, SERVICE_ACCOUNT_ACTIVATOR)
        except SecretUnreadable as error:
            raise AbroadUnavailable(str(error)) from error
        try:
            token = base64.b64decode(held or "", validate=True).decode("ascii").strip()
        except ValueError:
            token = ""
        if not token or not token.isprintable():
            raise AbroadUnavailable(f"Secret {name.name} has no key {SECRET_KEY} that holds a token")
        return token


def _judge(status: int) -> None:
    """Return where an answer is one: what it says of the request, not of the URL, its token or its load."""
    if status in _NO_ANSWERS or status >= 500 or not (200 <= status < 300 or status >= 400):
        raise AbroadUnavailable(f"it answered {status}")
