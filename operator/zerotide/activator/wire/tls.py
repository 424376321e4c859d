"""A server's certificate, read again whenever its files change; a bad one never replaces a good one."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

from zerotide.activator.failures import CertificateUnusable

log = logging.getLogger(__name__)

POLL = 2.0
"""Seconds between two looks: the kubelet brings a new certificate within a minute or so itself."""
Stamp = tuple[tuple[str, int, int, int], ...]


class Certificate:
    """`tls.crt` and `tls.key` of a folder, as a Secret is mounted.

    `context` is for new connections and never changes once it is made: those that are open are not touched.
    """

    def __init__(self, folder: Path, protocols: Sequence[str] = ("h2", "http/1.1")) -> None:
        """Read the certificate. Raises CertificateUnusable."""
        self._folder, self._protocols = folder, list(protocols)
        self.loaded = self.failed = 0
        self._seen = self._stamp()
        self.context = self._load()

    def refresh(self) -> None:
        """Take a changed certificate in; keep the old one where the new one is unusable, and say so once."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self.context = self._load()
        except CertificateUnusable as error:
            self.failed += 1
            log.error("the new certificate is unusable: the old one stays", extra={"error": str(error)})
        else:
            log.info("new certificate", extra={"folder": str(self._folder)})

    async def run(self) -> None:
        """Look for changes, for ever."""
        while True:
            await asyncio.sleep(POLL)
            self.refresh()

    def _files(self) -> tuple[Path, Path]:
        # The kubelet swaps the link `..data`, so that both files of one resolved folder belong together.
        folder = (self._folder / "tls.crt").resolve().parent
        return folder / "tls.crt", folder / "tls.key"

    def _stamp(self) -> Stamp:
        stamp = []
        for path in self._files():
            try:
                found = path.stat()
            except OSError:
                stamp.append((str(path), 0, 0, 0))
            else:
                stamp.append((str(path), found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(stamp)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(self._protocols)
        certificate, key = self._files()
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise CertificateUnusable(f"{certificate} and {key}: {error}") from error
        self.loaded += 1
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted: give it as it is")
