"""How an engine is asked for one token, and whether an answer holds one."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from zerotide.api.spec_runtime import Engine


class Question(NamedTuple):
    """A request for one token: a POST of JSON."""

    path: str
    body: str


def one_token(engine: Engine, model: str, *, counted: bool = False) -> Question:
    """Return what to ask; with `counted`, the answer is to say how many tokens it is."""
    if engine is Engine.TGI:
        # Its OpenAI routes came late, and without `details` an answer of a special token is empty.
        details = {"details": True} if counted else {}
        return Question("/generate", json.dumps({"inputs": "a", "parameters": {"max_new_tokens": 1, **details}}))
    return Question("/v1/completions", json.dumps({"model": model, "prompt": "a", "max_tokens": 1}))


def generated(answer: bytes) -> bool:
    """Tell whether a whole answer, OpenAI's or TGI's, holds a token: as text, or as a count where it has no text."""
    try:
        content: Any = json.loads(answer)
    except ValueError:
        return False
    if not isinstance(content, dict):
        return False
    choices = content.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    counts = (_of(content, "usage", "completion_tokens"), _of(content, "details", "generated_tokens"))
    texts = (first.get("text"), content.get("generated_text"))
    return any(type(count) is int and count > 0 for count in counts) or any(
        isinstance(text, str) and text for text in texts
    )


def _of(content: dict[str, Any], part: str, name: str) -> Any:
    inner = content.get(part)
    return inner.get(name) if isinstance(inner, dict) else None
