"""Where the API server is and how to prove who we are: in-cluster account or kubeconfig."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zerotide.kube.errors import CredentialsError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class TokenFile:
    """Read a bearer token from a file, again at most every 30 s, since the kubelet rotates projected tokens."""

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.monotonic, every: float = 30.0) -> None:
        self.path = Path(path)
        self._clock, self._every = clock, every
        self._token, self._read_at = "", float("-inf")

    def __call__(self) -> str:
        """Return the current token; keep the last one when a re-read fails, raise CredentialsError without any."""
        now = self._clock()
        if now - self._read_at >= self._every:
            try:
                self._token = self.path.read_text().strip()
                self._read_at = now
            except OSError as error:
                if not self._token:
                    raise CredentialsError(f"cannot read the token file {self.path}: {error.strerror}") from error
        return self._token


@dataclass(frozen=True)
class Credentials:
    """The API server's address, its TLS context and a source of bearer tokens (None with client certificates)."""

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str] | None = field(default=None, repr=False)
    namespace: str = "default"


async def load_credentials(context: str | None = None) -> Credentials:
    """Use the pod's account inside a cluster (unless KUBECONFIG is set), else the kubeconfig.

    Raises CredentialsError with what is missing.
    """
    if not os.environ.get("KUBECONFIG") and context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster()
    return await _from_kubeconfig(context)


def _in_cluster() -> Credentials:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    certificate = ACCOUNT / "ca.crt"
    if not certificate.is_file():
        raise CredentialsError(f"inside a cluster, but {certificate} is missing: is the account's token mounted?")
    namespace = (ACCOUNT / "namespace").read_text().strip() if (ACCOUNT / "namespace").is_file() else "default"
    tls = ssl.create_default_context(cafile=str(certificate))
    return Credentials(f"https://{authority}", tls, TokenFile(ACCOUNT / "token"), namespace)


async def _from_kubeconfig(context: str | None) -> Credentials:
    # Imported here: it costs 0.8 s, and processes inside a cluster never need it.
    from kubernetes.aio import client, config

    library: Any = config  # it carries no types
    configuration = client.Configuration()
    # The library reads KUBECONFIG once, when it is imported: what holds now is said to it.
    where = os.environ.get("KUBECONFIG") or "~/.kube/config"
    try:
        await library.load_kube_config(config_file=where, context=context, client_configuration=configuration)
        contexts, active = library.list_kube_config_contexts(config_file=where)
    except (config.ConfigException, OSError) as error:
        raise CredentialsError(
            f"no usable kubeconfig at {where}: {error}. Set KUBECONFIG to your cluster's file"
        ) from error
    chosen = next((item for item in contexts if item["name"] == context), active)
    namespace = (chosen.get("context") or {}).get("namespace") or "default"
    server = str(configuration.host).rstrip("/")
    tls = _tls(configuration) if server.startswith("https") else None
    bearer = (configuration.api_key or {}).get("BearerToken", "")
    token = bearer.split(" ", 1)[-1] if bearer else ""
    return Credentials(server, tls, (lambda: token) if token else None, namespace)


def _tls(configuration: object) -> ssl.SSLContext:
    ca = getattr(configuration, "ssl_ca_cert", None)
    context = ssl.create_default_context(cafile=ca or None)
    if not getattr(configuration, "verify_ssl", True):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = getattr(configuration, "cert_file", None), getattr(configuration, "key_file", None)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
