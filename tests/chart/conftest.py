"""Fixtures of the chart's tests: a namespace on the real cluster in which the chart's rules hold."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.installing import isolated, path
from tests.chart.rendering import Object, render
from tests.reconcile.forbidden import BLOCK, FOLDER
from zerotide.kube import Client, Invalid, NotFound, load_credentials
from zerotide.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, INFERENCE_ENDPOINTS, NAMESPACES

CRDS = Path(__file__).resolve().parents[2] / "crds"


@dataclass(frozen=True)
class Place:
    """Where a test works: a client with all rights, and a namespace that is the chart's and the endpoints' own."""

    client: Client
    namespace: str

    def endpoint(self, **spec: Any) -> Object:
        """Return an endpoint of the namespace."""
        body = {"model": {"uri": "image:///models/smollm2"}, **spec}
        return {
            "apiVersion": INFERENCE_ENDPOINTS.api_version,
            "kind": INFERENCE_ENDPOINTS.kind,
            "metadata": {"name": "subject", "namespace": self.namespace},
            "spec": body,
        }


async def _define_kinds(client: Client) -> None:
    for file in sorted(CRDS.glob("*.yaml")):
        await client.apply(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(file.read_text()), "chart-tests")
    async with asyncio.timeout(30):
        while True:
            try:
                await client.list(INFERENCE_ENDPOINTS)
                return
            except NotFound:
                await asyncio.sleep(0.1)


async def _await_policy(place: Place) -> None:
    """Wait until admission has learnt of the policies, which takes a moment after they are made."""
    async with asyncio.timeout(60):
        while True:
            try:
                probe = {**place.endpoint(), "metadata": {"name": "probe", "namespace": place.namespace}}
                await place.client.request(
                    "POST", INFERENCE_ENDPOINTS.path(place.namespace), body=probe, params={"dryRun": "All"}
                )
            except Invalid as error:
                if str(error).endswith(place.namespace):
                    return
            await asyncio.sleep(0.2)


@pytest.fixture
async def place(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Install the chart's accounts, roles and policies for one fresh namespace, and remove them afterwards."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    name = f"chart-{secrets.token_hex(4)}"
    objects = isolated(render({"policy": {"nodePaths": [FOLDER], "egress": {"allow": [BLOCK]}}}, namespace=name), name)
    async with Client(await load_credentials()) as client:
        await _define_kinds(client)
        labels = {"chart-test": name}
        place = Place(client, name)
        try:
            await client.create(
                NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            )
            for item in objects:
                await client.request("POST", path(item), body=item)
            await _await_policy(place)
            yield place
        finally:
            await client.delete(NAMESPACES, name)
            for item in objects:
                if item["metadata"].get("namespace") != name:
                    with suppress(NotFound):
                        await client.request("DELETE", f"{path(item)}/{item['metadata']['name']}")
