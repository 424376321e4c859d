"""Read the prompts of plain completions."""

from __future__ import annotations

from typing import Any

from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object
from zerotide_runtime.server.service import Loaded


def read_prompts(source: Object, name: str = "prompt") -> list[str | list[int]]:
    """Return the prompts of a plain completion, or a field like them: texts, or lists of tokens."""
    prompt = source.get(name)
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(isinstance(item, str) for item in prompt):
            return list(prompt)
        if _is_tokens(prompt):
            return [prompt]
        if all(_is_tokens(item) and item for item in prompt):
            return list(prompt)
    raise InvalidRequest(f"`{name}` must be a string, a list of strings, or tokens", name)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)


def encode_prompts(prompts: list[str | list[int]], model: Loaded, name: str = "prompt") -> list[list[int]]:
    """Return the tokens of each prompt; raise InvalidRequest for what the model cannot read."""
    size, codec = model.assets.config.vocabulary, model.assets.codec
    tokens = []
    for prompt in prompts:
        ids = codec.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else prompt
        if not ids:
            raise InvalidRequest(f"`{name}` must not be empty", name)
        if not all(0 <= token < size for token in ids):
            raise InvalidRequest(f"`{name}` has tokens outside the vocabulary of {size}", name)
        tokens.append(ids)
    return tokens
