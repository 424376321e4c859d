"""Where keys are read: at a URL that a user wrote, with all due distrust, or in a ConfigMap."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from zerotide.activator.access.trust import KeysConfigMap, KeysUrl, Source
from zerotide.activator.failures import AddressRefused, KeysMalformed, KeysMissing, KeysUnreachable
from zerotide.api.egress import Egress
from zerotide.kube import Client, KubeError, NotFound, outgoing
from zerotide.kube.resources import CONFIG_MAPS

LONGEST = 256 * 1024
TIMEOUT = 4.0
"""Seconds for a whole reading; less than requests wait for one."""
_HEADERS = {"Accept": "application/jwk-set+json, application/json"}


class Loader:
    """Read key sets."""

    def __init__(self, client: Client, egress: Egress, authorities: Path | None = None) -> None:
        """`authorities` is a file of certificates that are trusted beside those of the system."""
        self._client, self._egress, self._authorities = client, egress, authorities

    async def load(self, source: Source) -> bytes:
        """Return the text of a key set. Raises the kinds of KeysUnavailable."""
        try:
            async with asyncio.timeout(TIMEOUT):
                text = await (self._fetch(source) if isinstance(source, KeysUrl) else self._read(source))
        except TimeoutError as error:
            raise KeysUnreachable(f"no whole answer within {TIMEOUT:g} s") from error
        if len(text) > LONGEST:
            raise KeysMalformed(f"the key set is larger than {LONGEST} bytes")
        return text

    async def _fetch(self, source: KeysUrl) -> bytes:
        try:
            tls = await asyncio.to_thread(outgoing.trusting, self._authorities)
        except OSError as error:
            raise KeysUnreachable(f"the authorities in {self._authorities} cannot be read: {error}") from error
        try:
            async with (
                outgoing.session(self._egress, tls, _HEADERS) as session,
                session.get(source.url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise KeysUnreachable(f"it answered {response.status}; only 200 is taken, and no redirect followed")
                text = b""
                while len(text) <= LONGEST and (chunk := await response.content.readany()):
                    text += chunk
                return text
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, outgoing.AddressForbidden):
                raise AddressRefused(str(error.os_error)) from error
            raise KeysUnreachable(f"no connection: {error}") from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise KeysUnreachable(f"no answer: {error!r}") from error

    async def _read(self, source: KeysConfigMap) -> bytes:
        try:
            found = await self._client.get(CONFIG_MAPS, source.name, source.namespace)
        except NotFound as error:
            raise KeysMissing("there is no such ConfigMap") from error
        except KubeError as error:
            raise KeysUnreachable(f"the ConfigMap cannot be read: {error}") from error
        text = (found.get("data") or {}).get(source.key)
        if not isinstance(text, str):
            raise KeysMissing("the ConfigMap has no such key")
        return text.encode()
