"""What the runtime's image holds, layer by layer, as it was pushed for the cluster."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from e2e.cluster.cluster import Cluster
from e2e.harness import SMOLLM2
from e2e.images import storage
from e2e.images.build import build

CODE = ("app/code/", "app/site/")
TAG = "cpython-311"
LARGEST = 2_000_000
"""Bytes that the code's own layer may take: it is what a change of the code costs every node."""


class Image(NamedTuple):
    """An image's settings, and the files that each of its layers brings, with their sizes."""

    settings: dict[str, object]
    layers: list[dict[str, int]]


def read_image(pushed: Path) -> Image:
    """Read an image from the folder that it was pushed into."""
    manifest = json.loads((pushed / "manifest.json").read_text())
    settings = json.loads((pushed / manifest["config"]["digest"].partition(":")[2]).read_text())["config"]
    layers = []
    for layer in manifest["layers"]:
        with tarfile.open(pushed / layer["digest"].partition(":")[2]) as tar:
            layers.append({entry.name.removeprefix("./"): entry.size for entry in tar if entry.isfile()})
    return Image(settings, layers)


def compiled(name: str) -> str:
    """Return where a module's byte code lies."""
    path = PurePosixPath(name)
    return str(path.parent / "__pycache__" / f"{path.stem}.{TAG}.pyc")


def test_nothing_is_compiled_at_a_start_and_a_change_of_code_is_cheap(local_cluster: Cluster) -> None:
    build(["smollm2"], [])
    image = read_image(storage.folder_of(SMOLLM2))
    files = {name for layer in image.layers for name in layer}
    modules = [name for name in files if name.startswith(CODE) and name.endswith(".py")]
    assert len(modules) > 1500, "torch alone has as many"
    assert [name for name in modules if compiled(name) not in files] == []
    assert image.settings["User"] == "65532:65532"
    assert image.settings["Entrypoint"] == ["python3", "-m", "zerotide_runtime"]
    (own,) = [
        layer for layer in image.layers if any(name.startswith("app/code/zerotide_runtime/server") for name in layer)
    ]
    assert sum(own.values()) < LARGEST
    assert not any(name.startswith("app/site/transformers/") for name in files)
    for number, layer in enumerate(image.layers):
        print(f"layer {number}: {len(layer)} files, {sum(layer.values()) / 1e6:.1f} MB")
