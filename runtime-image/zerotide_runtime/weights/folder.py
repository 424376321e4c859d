"""Find the weight files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path

from zerotide_runtime.errors import InvalidModel, ModelNotFound

SINGLE, SHARDS = "model.safetensors", "model.safetensors.index.json"
INDEX = "index.json"
"""What publishing leaves beside the files that it digested."""


def check_folder(folder: Path) -> None:
    """Raise ModelNotFound where there is no folder; several threads look into it, and whoever is first must say so."""
    if not folder.is_dir():
        raise ModelNotFound(f"there is no model folder at {folder}")


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that make up a model, in order; raise InvalidModel where one is missing."""
    check_folder(folder)
    if (folder / SHARDS).is_file():
        try:
            shards: dict[str, str] = json.loads((folder / SHARDS).read_text())["weight_map"]
        except (ValueError, KeyError):
            raise InvalidModel(f"{folder / SHARDS} is not an index of weight files") from None
        paths = [folder / name for name in sorted(set(shards.values()))]
        for path in paths:
            # An index is data from outside: it must not lead out of its folder.
            if path.parent != folder or not path.is_file():
                raise InvalidModel(f"{folder / SHARDS} names {path.name}, which is not there")
        return paths
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others
    raise ModelNotFound(f"{folder} has no {SINGLE}; publish the model first (python -m zerotide_runtime publish)")
