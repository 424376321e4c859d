"""Nodes and pods that nothing runs: KWOK writes what kubelets would, and every pod's address leads to one backend."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path

from bench.control_plane.following import is_ready
from bench.goprogram import installed, module_folder
from bench.wire.processes import Running, running
from zerotide.api.names import RESOURCE_GPU
from zerotide.kube import Client
from zerotide.kube.resources import NODES

MODULE, VERSION = "sigs.k8s.io/kwok", "0.8.0"
STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
"""How nodes and pods come along, as published: at once."""
PODS = "10.250.0.0/16"
LABEL = "kwok.x-k8s.io/node"
GPUS = 64
"""Of a node: where the API server is busy, heartbeats of many come late, and a node that is lost loses its pods."""


def program() -> Path:
    """Return KWOK's program, installed where it is missing. Raises ToolError."""
    return installed("KWOK", VERSION, {"kwok": f"{MODULE}/cmd/kwok"})["kwok"]


def lead_home() -> None:
    """Let every address that KWOK gives to a pod be this network's own, so that a listener here answers for all."""
    subprocess.run(["ip", "route", "replace", "local", PODS, "dev", "lo"], check=True)


def start(stack: contextlib.ExitStack, folder: Path, core: str) -> Running:
    """Run KWOK for the nodes that are labelled for it."""
    config = folder / "stages.yaml"
    config.write_text(_stages())
    flags = [f"--config={config}", f"--manage-nodes-with-label-selector={LABEL}=fake", f"--cidr={PODS}"]
    return stack.enter_context(running("kwok", [str(program()), *flags, "--server-address="], core, folder))


def _stages() -> str:
    root = module_folder(MODULE, f"v{VERSION}") / "kustomize/stage"
    files = [file for name in STAGES for file in sorted((root / name).glob("*.yaml")) if file.stem != "kustomization"]
    return "---\n".join(file.read_text() for file in files)


async def have(client: Client, count: int) -> None:
    """Make nodes with GPUs and wait until they are Ready. Raises TimeoutError."""
    amounts = {"cpu": "256", "memory": "1Ti", "pods": "110", RESOURCE_GPU: str(GPUS)}
    for number in range(count):
        metadata = {"name": f"fake-{number}", "labels": {LABEL: "fake"}}
        status = {"capacity": amounts, "allocatable": amounts}
        await client.create(NODES, {"metadata": metadata, "status": status})
    async with asyncio.timeout(60):
        while await _ready(client) < count:
            await asyncio.sleep(0.2)


async def _ready(client: Client) -> int:
    nodes = (await client.list(NODES, label_selector=f"{LABEL}=fake")).items
    return sum(is_ready(node) and not node["spec"].get("taints") for node in nodes)
