"""Ask the exporter for quota slices over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from zerotide.activator.failures import LedgerSilent
from zerotide.api.quota import PATH, Ask, Grants
from zerotide.kube import CredentialsError, TokenFile

LONGEST = 2.0
"""Seconds that an answer may take: requests wait for it."""


class QuotaClient:
    """A connection to the exporter at `url`."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        self._url = url + PATH
        self._token: Callable[[], str] | None = TokenFile(token_file) if token_file is not None else None
        self._session: aiohttp.ClientSession | None = None

    async def post(self, ask: Ask) -> Grants:
        """Return what is granted. Raises LedgerSilent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        try:
            headers = {"Content-Type": "application/json"}
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token()}"
            timeout = aiohttp.ClientTimeout(total=LONGEST)
            async with self._session.post(
                self._url, data=ask.encode(), headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError, CredentialsError) as error:
            raise LedgerSilent(f"{self._url}: {error!r}") from error
        if answer.status != 200:
            raise LedgerSilent(f"{self._url}: {answer.status} {body[:500].decode('utf-8', 'replace')}")
        try:
            return Grants.model_validate_json(body)
        except ValidationError as error:
            raise LedgerSilent(f"{self._url}: no answer to an ask for quota: {error.error_count()} errors") from error

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
