"""Fixtures for tests on a real cluster.

    cluster         whatever cluster there is: that of $KUBECONFIG, else the local one
    local_cluster   the local one, named by $ZEROTIDE_TEST_CLUSTER (default `zerotide-test`), started if it does not run

The local one is removed at the end of the session, unless it ran before or ZEROTIDE_KEEP=1 asks to leave it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster import Cluster

DEFAULT_NAME = "zerotide-test"


@dataclass(frozen=True)
class GivenCluster:
    """A cluster that somebody else runs, named by $KUBECONFIG; it offers what every cluster can."""

    kubeconfig: Path
    gateway_url: str


def session_name() -> str:
    """Return the name of the local cluster that tests share."""
    return os.environ.get("ZEROTIDE_TEST_CLUSTER") or DEFAULT_NAME


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[Cluster]:
    """Share one local cluster among all tests of the session."""
    shared = Cluster(session_name())
    leave = shared.running or os.environ.get("ZEROTIDE_KEEP") == "1"
    try:
        shared.up()
        yield shared
    finally:
        if not leave:
            shared.down()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster | GivenCluster:
    """Give the cluster that tests talk to: by its `kubeconfig`, and its `gateway_url` once Zerotide is installed."""
    given = os.environ.get("KUBECONFIG")
    if given:
        return GivenCluster(Path(given), os.environ.get("ZEROTIDE_GATEWAY", ""))
    local: Cluster = request.getfixturevalue("local_cluster")
    return local
