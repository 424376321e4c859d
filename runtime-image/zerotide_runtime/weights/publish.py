"""Convert a model once, so that every later start only maps it.

The result is an ordinary Hugging Face folder, with its tensors in execution order behind a page-aligned
header, and an `index.json` with a SHA-256 for every 64 MiB of every file. The digest of the whole is the
SHA-256 of that list.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zerotide_runtime.errors import InvalidModel
from zerotide_runtime.weights.folder import INDEX, SINGLE
from zerotide_runtime.weights.numeric import from_float32
from zerotide_runtime.weights.order import EMBEDDING, HEAD, execution_order
from zerotide_runtime.weights.safetensors_file import write
from zerotide_runtime.weights.source import Source, open_source

CHUNK = 64 << 20
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def publish(source_path: Path, target: Path, dtype: str = "float32") -> dict[str, Any]:
    """Write the model at `source_path` into the new folder `target`; return its index."""
    if target.exists():
        raise InvalidModel(f"{target} exists already; remove it or name another folder")
    source = open_source(source_path)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write_weights(source, partial / SINGLE, DTYPES[dtype])
        for name, text in source.files.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(text)
        (partial / "config.json").write_text(json.dumps({**source.config, "dtype": dtype}, indent=2) + "\n")
        index = make_index(partial)
        (partial / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return index


def write_weights(source: Source, path: Path, dtype: str) -> None:
    """Write all tensors into one file, in execution order; a tied head is left out."""
    names = execution_order(source.tensors)
    if source.config.get("tie_word_embeddings") and EMBEDDING in names and HEAD in names:
        names.remove(HEAD)
    entries = [(name, dtype, source.tensors[name].shape) for name in names]
    write(path, entries, (from_float32(source.tensors[name].load(), dtype) for name in names))


def make_index(folder: Path) -> dict[str, Any]:
    """Return the digests of a folder's files."""
    files: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != INDEX:
            digests = [hashlib.sha256(chunk).hexdigest() for chunk in _chunks(path)]
            files[name] = {"bytes": path.stat().st_size, "sha256": digests}
    canonical = json.dumps(files, sort_keys=True, separators=(",", ":")).encode()
    return {
        "format": 1,
        "digest": f"sha256:{hashlib.sha256(canonical).hexdigest()}",
        "chunkBytes": CHUNK,
        "files": files,
    }


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
