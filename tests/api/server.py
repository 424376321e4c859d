"""One kept connection to a real API server, for hundreds of small questions in a row."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from zerotide.api.crd import definitions

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class Refused(Exception):
    """The API server said no; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """The API server of a kubeconfig with client certificates; use it as a context."""

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode(),
        )
        with tempfile.NamedTemporaryFile("wb") as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            context.load_cert_chain(pair.name)
        address = urlsplit(cluster["server"])
        host, port = address.hostname or "", address.port
        self._new: Callable[[], http.client.HTTPSConnection] = partial(
            http.client.HTTPSConnection, host, port, timeout=30, context=context
        )
        self._connection = self._new()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        """Send one request and return the object in its answer.

        Raises Refused for statuses of 400 and more.
        """
        headers = {"Content-Type": kind, "Accept": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        content: dict[str, Any] = json.loads(answer.read())
        if answer.status >= 400:
            raise Refused(answer.status, content["message"])
        return content

    def refusal(self, path: str, obj: dict[str, Any]) -> str | None:
        """Return why the schema of a collection refuses an object, None where it takes it; nothing is kept."""
        try:
            self.call("POST", f"{path}?fieldValidation=Strict&dryRun=All", obj)
        except Refused as error:
            assert error.status in (400, 422), error
            return str(error)
        return None

    def define(self, *plurals: str) -> None:
        """Have these kinds of ours served, as they are now."""
        for plural in plurals:
            definition = definitions()[f"zerotide.dev_{plural}.yaml"]
            name = definition["metadata"]["name"]
            path = f"{CRDS}/{name}?fieldManager=api-tests&force=true&fieldValidation=Strict"
            self.call("PATCH", path, definition, APPLY)
            self._established(name)

    def _established(self, name: str) -> None:
        """Wait, on a watch, until a CRD is served."""
        for crd in self.follow(f"{CRDS}?fieldSelector=metadata.name={name}"):
            found = {row["type"]: row["status"] for row in (crd.get("status", {}).get("conditions") or ())}
            if found.get("Established") == "True":
                return
        raise AssertionError(f"{name} was not established in 30 s")

    def follow(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a collection, then each change, for at most 30 s, on a connection of its own."""
        listed = self.call("GET", path)
        yield from listed["items"]
        connection = self._new()
        try:
            version = listed["metadata"]["resourceVersion"]
            connection.request("GET", f"{path}&watch=1&timeoutSeconds=30&resourceVersion={version}")
            answer = connection.getresponse()
            while line := answer.readline():
                yield json.loads(line)["object"]
        finally:
            connection.close()
