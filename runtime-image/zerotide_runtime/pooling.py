"""How a model's embeddings come about, read from the files that sentence-transformers keeps beside it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zerotide_runtime.errors import InvalidModel, UnsupportedModel

log = logging.getLogger(__name__)

MODULES, POOLING, LIMITS = "modules.json", "config.json", "sentence_bert_config.json"
# Of the ways to make one vector of many, those that are known, as sentence-transformers has named them at times.
CLS, MEAN, LAST = "cls", "mean", "lasttoken"
FLAGS = {"pooling_mode_cls_token": CLS, "pooling_mode_mean_tokens": MEAN, "pooling_mode_lasttoken": LAST}
FLAG = "pooling_mode_"


@dataclass(frozen=True)
class Pooling:
    """Which hidden states make an embedding, whether its length is one, and how it may be cut.

    `most_tokens` is the longest input that the model is meant for; `dimensions` the sizes that it may be cut to,
    None where any will do and empty where it must stay whole.
    """

    mode: str
    normalise: bool
    most_tokens: int | None = None
    dimensions: tuple[int, ...] | None = ()

    def cuts_to(self, size: int, whole: int) -> bool:
        """Tell whether the first `size` of `whole` numbers are an embedding too."""
        return size == whole or (0 < size < whole and (self.dimensions is None or size in self.dimensions))


def module_files(folder: Path) -> list[str]:
    """Return which files of a folder say how it embeds, by their paths within it; none where it does not."""
    if not (folder / MODULES).is_file():
        return []
    paths = [f"{path}/{POOLING}" for _, path in _modules(folder) if path]
    return [name for name in (MODULES, LIMITS, *paths) if (folder / name).is_file()]


def read_pooling(folder: Path, config: dict[str, Any]) -> Pooling | None:
    """Return how a model embeds; None where it does not say so, or needs what is not known here, which is logged."""
    if not (folder / MODULES).is_file():
        return None
    try:
        return _read(folder, config)
    except UnsupportedModel as refusal:
        log.warning("this model makes no embeddings here: %s", refusal)
        return None


def _read(folder: Path, config: dict[str, Any]) -> Pooling:
    modules = _modules(folder)
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        known = "Transformer, Pooling and perhaps Normalize"
        raise UnsupportedModel(f"{MODULES} has {', '.join(kinds) or 'nothing'}; known are {known}")
    pooling = _object(folder / modules[1][1] / POOLING)
    limit = _object(folder / LIMITS).get("max_seq_length") if (folder / LIMITS).is_file() else None
    sizes = config.get("matryoshka_dimensions")
    return Pooling(
        mode=_mode(pooling),
        normalise=len(modules) == 3,
        most_tokens=int(limit) if limit else None,
        dimensions=tuple(map(int, sizes)) if sizes else None if config.get("is_matryoshka") else (),
    )


def _mode(pooling: dict[str, Any]) -> str:
    named = pooling.get("pooling_mode")
    modes = [named] if named else [FLAGS.get(key, key) for key, on in pooling.items() if key.startswith(FLAG) and on]
    if len(modes) != 1 or modes[0] not in FLAGS.values():
        raise UnsupportedModel(f"its pooling is {modes}; known are one of {', '.join(FLAGS.values())}")
    return str(modes[0])


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return the modules in order: their kinds, and their folders within the model's."""
    path = folder / MODULES
    try:
        entries = json.loads(path.read_text())
        modules = [(str(entry["type"]).rsplit(".", 1)[-1], str(entry["path"])) for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidModel(f"{path} is not a list of modules: {error!r}") from None
    for _, inside in modules:
        if PurePosixPath(inside).is_absolute() or ".." in PurePosixPath(inside).parts:
            raise InvalidModel(f"{path} names {inside!r}, which is outside the model's folder")
    return modules


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InvalidModel(f"{path} is missing, but {MODULES} names it") from None
    except ValueError as error:
        raise InvalidModel(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidModel(f"{path} is not a JSON object")
    return content
