"""The token that activators ask of the operator: projected into its pod, or minted where it runs from source."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from zerotide.api.names import AUDIENCE_ACTIVATOR
from zerotide.kube import Client, CredentialsError, KubeError, TokenFile

log = logging.getLogger(__name__)

LIFETIME = 3600


class StreamToken:
    """A bearer token for the demand streams; empty while none can be had, which activators refuse."""

    def __init__(self, client: Client, file: Path | None, account: str, namespace: str) -> None:
        self._client, self._account, self._namespace = client, account, namespace
        self._file = TokenFile(file) if file is not None else None
        self._minted = ""

    def __call__(self) -> str:
        """Return the present token."""
        if self._file is None:
            return self._minted
        try:
            return self._file()
        except CredentialsError as error:
            log.warning("token not read", extra={"error": str(error)})
            return ""

    async def refresh(self) -> None:
        """Mint a token where there is no file."""
        if self._file is not None:
            return
        try:
            self._minted = await self._client.token(
                self._account, self._namespace, AUDIENCE_ACTIVATOR, seconds=LIFETIME
            )
        except KubeError as error:
            log.warning("token not minted", extra={"account": self._account, "error": str(error)})

    async def run(self) -> None:
        """Mint again in good time, or soon where it failed."""
        while True:
            await asyncio.sleep(LIFETIME / 3 if self._minted or self._file else 2.0)
            await self.refresh()
