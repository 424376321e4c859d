"""Everything of a model but its weights: config, tokenizer, template, end tokens. Light: no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotide_runtime.chat_template import ChatTemplate
from zerotide_runtime.codec import Codec
from zerotide_runtime.engine.config import ModelConfig, parse_config
from zerotide_runtime.errors import InvalidModel, ModelNotFound, UnsupportedModel
from zerotide_runtime.pooling import Pooling, read_pooling
from zerotide_runtime.weights.folder import check_folder


@dataclass(frozen=True)
class Assets:
    """A model as the protocols see it; `template` is None for models that are not made for chat.

    `pooling` is None for those that make no embeddings.
    """

    config: ModelConfig
    codec: Codec
    end_tokens: frozenset[int]
    template: ChatTemplate | None
    digest: str | None
    pooling: Pooling | None = None


def load_assets(folder: Path) -> Assets:
    """Read a model folder's small files; raise a StartError that names what is wrong."""
    check_folder(folder)
    if not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"{folder} has no config.json; publish the model first (python -m zerotide_runtime publish)"
        )
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedModel(f"{folder} has no tokenizer.json; save its tokenizer in the fast form first")
    config, generation = _read(folder / "config.json"), _read(folder / "generation_config.json")
    tokenizer = _read(folder / "tokenizer_config.json")
    shapes = _model_config(folder, config)
    return Assets(
        config=shapes,
        codec=Codec(folder / "tokenizer.json"),
        end_tokens=_end_tokens(generation, config),
        template=_template(folder, tokenizer),
        digest=_read(folder / "index.json").get("digest"),
        pooling=None if shapes.foreign else read_pooling(folder, config),
    )


def _model_config(folder: Path, config: dict[str, Any]) -> ModelConfig:
    try:
        return parse_config(config)
    except UnsupportedModel as refusal:
        from zerotide_runtime.engine.foreign import foreign_config

        return foreign_config(folder, refusal)


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one where the file is missing."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidModel(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidModel(f"{path} is not a JSON object")
    return content


def _end_tokens(*configs: dict[str, Any]) -> frozenset[int]:
    """Return the tokens that end an answer, from the first config that names any."""
    for config in configs:
        named = config.get("eos_token_id")
        if named is not None:
            return frozenset(named if isinstance(named, list) else [named])
    return frozenset()


def _template(folder: Path, tokenizer: dict[str, Any]) -> ChatTemplate | None:
    file = folder / "chat_template.jinja"
    source = file.read_text() if file.is_file() else tokenizer.get("chat_template")
    if isinstance(source, list):  # several templates by name
        source = next((item["template"] for item in source if item.get("name") == "default"), None)
    if source is None:
        return None
    special = {}
    for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = tokenizer.get(role)
        if token is not None:
            special[role] = token["content"] if isinstance(token, dict) else token
    return ChatTemplate(source, special)
