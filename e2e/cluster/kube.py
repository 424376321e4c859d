"""The smallest client of the Kubernetes API that a cluster's own helpers need: stdlib, plain dicts."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2e.cluster.errors import ApiError

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class Connection(http.client.HTTPSConnection):
    """A connection whose socket is ours to close however its start fails.

    Python loses a socket that is reset after TCP's handshake and before TLS takes it over; here TLS comes first.
    """

    def connect(self) -> None:
        """Connect over IPv4. Raises OSError."""
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        self.sock = context.wrap_socket(socket.socket(), server_hostname=self.host)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Kube:
    """A client for one kubeconfig of ours; a new connection per call, so that it never goes stale."""

    def __init__(self, kubeconfig: Path, timeout: float = 30.0) -> None:
        content = json.loads(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._address = urlsplit(cluster["server"])
        self._timeout = timeout
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile("wb") as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: Json | None = None, kind: str = "application/json", timeout: float = 0.0
    ) -> Iterator[http.client.HTTPResponse]:
        host, port = self._address.hostname or "", self._address.port
        limit = timeout or self._timeout
        connection = Connection(host, port, timeout=limit, context=self._tls)
        with contextlib.closing(connection):
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": kind, "Accept": "application/json"})
            with connection.getresponse() as answer:
                if answer.status >= 400:
                    raise ApiError(answer.status, f"{method} {path}: {_reason(answer.read())}")
                yield answer

    def text(self, path: str) -> str:
        """Return the body of a GET as text. Raises ApiError, OSError."""
        with self._answer("GET", path) as answer:
            return answer.read().decode()

    def call(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Json:
        """Send one request and return the object in its answer. Raises ApiError, OSError."""
        with self._answer(method, path, body, kind) as answer:
            content: Json = json.loads(answer.read())
            return content

    def get(self, path: str) -> Json | None:
        """Return an object, or None when there is none. Raises ApiError, OSError."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def apply(self, path: str, body: Json) -> Json:
        """Apply an object server-side, in the name of the local cluster. Raises ApiError, OSError."""
        return self.call("PATCH", f"{path}?fieldManager=zerotide-local-cluster&force=true", body, APPLY)

    def delete(self, path: str) -> None:
        """Delete an object that may be gone already. Raises ApiError, OSError."""
        try:
            self.call("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def follow(self, path: str, timeout: float = 3600.0) -> Generator[tuple[str, Json], None, None]:
        """List a collection, then yield its changes as (type, object) until the server ends the watch.

        The objects of the list come first, as SYNC events. Raises ApiError, OSError.
        """
        mark = "&" if "?" in path else "?"
        listed = self.call("GET", path)
        for item in listed.get("items") or []:
            yield "SYNC", item
        version = listed["metadata"]["resourceVersion"]
        query = f"{path}{mark}watch=1&resourceVersion={version}&timeoutSeconds={max(1, int(timeout))}"
        with self._answer("GET", query, timeout=timeout + 5) as answer:
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(int(status.get("code", 500)), f"watch {path}: {status.get('message')}")
                yield event["type"], event["object"]


def _reason(body: bytes) -> str:
    text = body.decode(errors="replace")
    with contextlib.suppress(ValueError):  # not every refusal is an object
        text = str(json.loads(text).get("message", text))
    return text
