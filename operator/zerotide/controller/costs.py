"""Ask the exporter what endpoints cost, so that it can be told in their statuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from zerotide.api.base import describe
from zerotide.api.cost import PATH, Cost, Spendings
from zerotide.controller.failures import CostsUnknown
from zerotide.kube import CredentialsError, TokenFile
from zerotide.reconcile.observed import Spent

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between questions; an answer holds only what has changed."""


class Costs:
    """What each endpoint cost as far as the exporter has told; an empty `url` asks nobody."""

    def __init__(
        self, url: str, token_file: Path | None, on_change: Callable[[str], None], every: float = EVERY
    ) -> None:
        self._url, self._on_change, self._every = url, on_change, every
        self._token = TokenFile(token_file) if token_file is not None else None
        self._known: dict[str, Spent] = {}
        self._epoch, self._version = "", 0
        self._silent = False

    def of(self, key: str) -> Spent | None:
        """Return what an endpoint cost, None while the exporter has not told."""
        return self._known.get(key)

    def forget(self, key: str) -> None:
        """Forget an endpoint that is gone."""
        self._known.pop(key, None)

    async def run(self) -> None:
        """Ask for ever, or return at once where there is nobody to ask."""
        if not self._url:
            return
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                try:
                    self._take(await self._ask(session))
                    self._silent = False
                except CostsUnknown as error:
                    # Nothing depends on it but what people read, and the exporter is watched by others.
                    log.log(
                        logging.DEBUG if self._silent else logging.WARNING, "costs unknown", extra={"error": str(error)}
                    )
                    self._silent = True
                await asyncio.sleep(self._every)

    async def _ask(self, session: aiohttp.ClientSession) -> Spendings:
        query = {"epoch": self._epoch, "after": str(self._version)}
        try:
            headers = {"Authorization": f"Bearer {self._token()}"} if self._token is not None else {}
            async with session.get(self._url + PATH, params=query, headers=headers, allow_redirects=False) as answer:
                body = await answer.read()
                if answer.status != 200:
                    raise CostsUnknown(f"the exporter answered {answer.status}: {body[:200].decode(errors='replace')}")
        except (aiohttp.ClientError, TimeoutError, OSError, CredentialsError) as error:
            raise CostsUnknown(f"the exporter cannot be asked: {type(error).__name__}: {error}") from error
        try:
            return Spendings.model_validate_json(body)
        except ValidationError as error:
            raise CostsUnknown(f"the exporter's answer is not understood: {'; '.join(describe(error))}") from error

    def _take(self, news: Spendings) -> None:
        for spending in news.endpoints:
            try:
                spent = Spent(Cost.model_validate(spending.cost, extra="ignore"), spending.final)
            except ValidationError as error:
                raise CostsUnknown(f"{spending.endpoint}: {'; '.join(describe(error))}") from error
            if self._known.get(spending.endpoint) != spent:
                self._known[spending.endpoint] = spent
                self._on_change(spending.endpoint)
        self._epoch, self._version = news.epoch, news.version
