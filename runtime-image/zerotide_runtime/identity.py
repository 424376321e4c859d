"""What a model folder tells of its content: how many bytes, which digest, which commit of the Hub.

Nothing is read but names, sizes and the index that publishing leaves: hashing gigabytes would cost the start more than
anything else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zerotide_runtime.weights.folder import INDEX, weight_files

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def identity(folder: Path) -> dict[str, Any]:
    """Return `bytes` of the weights, `digest` where a published folder is as it was, `revision` where the Hub told."""
    found: dict[str, Any] = {"bytes": sum(path.stat().st_size for path in weight_files(folder))}
    if digest := _digest(folder):
        found["digest"] = digest
    if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):
        found["revision"] = folder.name
    return found


def _digest(folder: Path) -> str:
    """Return the digest of a folder's index, nothing where its files have other sizes than those that were digested."""
    try:
        index = json.loads((folder / INDEX).read_text())
        digest, files = str(index["digest"]), dict(index["files"])
        same = all((folder / name).stat().st_size == entry["bytes"] for name, entry in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return digest if same and _DIGEST.fullmatch(digest) else ""
