"""Certificates for tests, made by openssl: an authority, and folders in which a Secret seems to be mounted."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-sha256")


class Authority:
    """An authority, and folders that change as the kubelet changes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "openssl.cnf").write_text("[req]\ndistinguished_name=dn\n[dn]\n")
        constraints = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self._make("ca", "/CN=test-authority", *constraints)
        self._count = 0

    def _make(self, name: str, subject: str, *extra: str) -> None:
        config = str(self.folder / "openssl.cnf")
        key, certificate = str(self.folder / f"{name}.key"), str(self.folder / f"{name}.crt")
        command = ["openssl", "req", "-config", config, "-x509", *KEY, "-keyout", key, "-out", certificate]
        subprocess.run([*command, "-subj", subject, *extra], check=True, capture_output=True)

    def mount(self, folder: Path, name: str = "server") -> None:
        """Mount a new certificate, or swap the one that is mounted, as one link at once."""
        signed = ("-CA", str(self.folder / "ca.crt"), "-CAkey", str(self.folder / "ca.key"))
        self._make(name, f"/CN={name}", *signed, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.swap(folder, (self.folder / f"{name}.crt").read_text(), (self.folder / f"{name}.key").read_text())

    def swap(self, folder: Path, certificate: str, key: str) -> None:
        """Swap both files."""
        self._count += 1
        folder.mkdir(exist_ok=True)
        fresh = folder / f"..{self._count}"
        fresh.mkdir()
        (fresh / "tls.crt").write_text(certificate)
        (fresh / "tls.key").write_text(key)
        link = folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.rename(folder / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")

    def client(self, *protocols: str) -> ssl.SSLContext:
        """Return what a client needs that trusts this authority only."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context
