"""A cluster of the operator's own: an operator from source must be the only one that sees its endpoints."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from e2e.cluster import Cluster
from e2e.fixtures import session_name
from e2e.images.build import build
from tests.controller.rig import Processes, Releaser, Rig, prepare
from zerotide.kube import Client, load_credentials


@pytest.fixture(scope="session")
def operator_cluster() -> Iterator[Cluster]:
    """Start the cluster, or use it where it runs."""
    cluster = Cluster(os.environ.get("ZEROTIDE_OPERATOR_CLUSTER") or f"{session_name()}-op")
    leave = cluster.running or os.environ.get("ZEROTIDE_KEEP") == "1"
    try:
        cluster.up()
        build(["trivial"], [cluster])
        yield cluster
    finally:
        if not leave:
            cluster.down()


@pytest.fixture(scope="module")
def processes(operator_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Keep the processes of a module's tests."""
    running = Processes(operator_cluster, tmp_path_factory.mktemp("logs"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
async def rig(operator_cluster: Cluster, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Give one operator, one stand-in activator, and something that releases pods."""
    monkeypatch.setenv("KUBECONFIG", str(operator_cluster.kubeconfig))
    async with Client(await load_credentials()) as client:
        if not processes.operators:
            await prepare(client, operator_cluster, processes.folder)
        processes.ensure()
        rig = Rig(operator_cluster, client, processes)
        await rig.ready()
        async with Releaser(client).running():
            try:
                yield rig
            finally:
                await rig.close()
    # aiohttp lets go of TLS connections a moment after it says so; unclosed ones are warnings, which are errors.
    await asyncio.sleep(0.1)
