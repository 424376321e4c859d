"""Fixtures of the command's tests: a namespace on the real cluster, and the command run in it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from zerotide.cli.main import main
from zerotide.kube import Client, NotFound, Object, load_credentials
from zerotide.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, INFERENCE_ENDPOINTS, NAMESPACES

CRDS = Path(__file__).resolve().parents[2] / "crds"


@dataclass(frozen=True)
class Result:
    """What a run of the command said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Cli:
    """The command in one namespace, and a client to play the operator with."""

    client: Client
    namespace: str
    capsys: pytest.CaptureFixture[str]

    async def __call__(self, *args: str, bare: bool = False) -> Result:
        """Run the command; `bare` adds no namespace."""
        self.capsys.readouterr()
        code = await asyncio.to_thread(main, [*args, *([] if bare else ["-n", self.namespace])])
        out, err = self.capsys.readouterr()
        return Result(code, out, err)

    async def status(self, name: str, state: str, **conditions: str) -> Object:
        """Write a status as the operator does; conditions are given as Type="Status Reason Message…"."""
        item = await self.client.get(INFERENCE_ENDPOINTS, name, self.namespace)
        generation = item["metadata"]["generation"]
        listed = []
        for kind, text in conditions.items():
            status, reason, message = text.split(" ", 2)
            listed.append(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastTransitionTime": "2026-11-22T18:00:00Z",
                    "observedGeneration": generation,
                }
            )
        body = {"status": {"state": state, "observedGeneration": generation, "conditions": listed}}
        return await self.client.patch(INFERENCE_ENDPOINTS, name, self.namespace, body, subresource="status")

    async def get(self, name: str) -> Object:
        """Read an endpoint."""
        return await self.client.get(INFERENCE_ENDPOINTS, name, self.namespace)


@pytest.fixture
async def cli(cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Cli]:
    """Open a fresh namespace on a cluster that serves the kinds, whether or not an operator runs there."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("ZEROTIDE_GATEWAY", raising=False)
    name = f"cli-{secrets.token_hex(4)}"
    async with Client(await load_credentials()) as client:
        for file in sorted(CRDS.glob("*.yaml")):
            await client.apply(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(file.read_text()), "cli-tests")
        async with asyncio.timeout(30):
            while True:
                try:
                    await client.list(INFERENCE_ENDPOINTS)
                    break
                except NotFound:
                    await asyncio.sleep(0.1)
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield Cli(client, name, capsys)
        finally:
            await client.delete(NAMESPACES, name)
