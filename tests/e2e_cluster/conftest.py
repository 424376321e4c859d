"""Fixtures of the local cluster's own tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster
from e2e.cluster.kube import Kube
from e2e.images.build import build
from tests.e2e_cluster import objects


@pytest.fixture(scope="session")
def loaded(local_cluster: Cluster) -> Cluster:
    """The shared local cluster, with the trivial image."""
    build(["trivial"], [local_cluster])
    return local_cluster


@pytest.fixture
def client(loaded: Cluster) -> Kube:
    """A client with all rights."""
    return loaded.client()


@pytest.fixture
def place(client: Kube) -> Iterator[str]:
    """A namespace where pods must be restricted."""
    name = objects.namespace(client)
    yield name
    client.delete(f"/api/v1/namespaces/{name}")
