"""A cluster of the operator's own: an operator from source must be the only one that sees its endpoints."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from e2e.cluster import Cluster
from e2e.fixtures import session_name
from e2e.images.build import build
from tests.controller.rig import ROOT, Releaser, Rig, prepare
from zerotide.kube import Client, load_credentials
from zerotide.kube.resources import CUSTOM_RESOURCE_DEFINITIONS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs the cluster; leave it out where none can be started."""
    needing = [item for item in items if "operator_cluster" in getattr(item, "fixturenames", ())]
    for item in needing:
        item.add_marker(pytest.mark.cluster)
    if needing and os.geteuid() != 0:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


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


@pytest.fixture
async def rig(operator_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Run one operator and one stand-in activator for the test."""
    monkeypatch.setenv("KUBECONFIG", str(operator_cluster.kubeconfig))
    async with Client(await load_credentials()) as client:
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            await client.apply(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()), "tests")
        await prepare(client)
        rig = Rig(operator_cluster, client, tmp_path)
        async with Releaser(client).running():
            try:
                await rig.start_activator()
                await rig.start_operator()
                yield rig
            finally:
                await rig.close()
