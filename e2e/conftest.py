"""The installed Zerotide that end-to-end tests share."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster
from e2e.fixtures import GivenCluster
from e2e.harness import System, wait_until
from e2e.install import install, install_into
from e2e.reach import reached
from e2e.up.install import NAMESPACE
from e2e.up.target import Target

INSTALLED = pytest.StashKey[System]()


@pytest.fixture(scope="session")
def system(cluster: Cluster | GivenCluster, request: pytest.FixtureRequest) -> Iterator[System]:
    """Install Zerotide into the cluster once."""
    with given(cluster) if isinstance(cluster, GivenCluster) else contextlib.nullcontext(install(cluster)) as installed:
        request.config.stash[INSTALLED] = installed
        yield installed


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_awake(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove a file's namespaces after its last test: what stayed awake in them would take the next file's CPUs."""
    yield
    if installed := request.config.stash.get(INSTALLED, None):
        installed.clean()


@contextlib.contextmanager
def given(cluster: GivenCluster) -> Iterator[System]:
    """Install into somebody else's cluster, and reach its gateway by $ZEROTIDE_GATEWAY or by port forwards."""
    target = Target(None, str(cluster.kubeconfig))
    with contextlib.ExitStack() as stack:
        installed = install_into(target, cluster.gateway_url)
        if not cluster.gateway_url:
            reach = stack.enter_context(reached(installed.kubectl_path, target.kubeconfig, NAMESPACE))
            installed.gateway = reach.url
            wait_until("an activator answers", lambda: answers(reach.url), timeout=60)
        yield installed


def answers(url: str) -> bool:
    """Tell whether a gateway speaks HTTP."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
