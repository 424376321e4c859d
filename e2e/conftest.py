"""The installed Zerotide that end-to-end tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.fixtures import GivenCluster
from e2e.harness import System
from e2e.install import install, install_into
from e2e.up.target import Target


@pytest.fixture(scope="session")
def system(cluster: Cluster | GivenCluster) -> Iterator[System]:
    """Install Zerotide into the cluster once; remove every test's namespace at the end."""
    if isinstance(cluster, GivenCluster):
        if not cluster.gateway_url:
            pytest.fail("set ZEROTIDE_GATEWAY to where the gateway of KUBECONFIG's cluster answers from here")
        installed = install_into(Target(None, str(Path(os.environ["KUBECONFIG"]))), cluster.gateway_url)
    else:
        installed = install(cluster)
    yield installed
    installed.clean()
