"""A namespace of a real API server for all tests of the types against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.objects import NAMESPACE, PLURALS, ROOT
from tests.api.server import APPLY, Server
from zerotide.api.crd import definitions


@pytest.fixture(scope="session")
def server(cluster: Any) -> Iterator[Server]:
    """Return a client of a cluster that has the CRDs and a namespace for these tests."""
    with Server(cluster.kubeconfig) as client:
        client.define(*(definition["spec"]["names"]["plural"] for definition in definitions().values()))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        client.call("PATCH", f"/api/v1/namespaces/{NAMESPACE}?fieldManager=api-tests", namespace, APPLY)
        yield client
    # A connection that nobody has used until all tests were over is closed by the API server.
    with Server(cluster.kubeconfig) as client:
        for plural in PLURALS.values():
            client.call("DELETE", f"{ROOT}/{NAMESPACE}/{plural}")
        client.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
