"""How many tokens a request may use at most, by its body alone.

A token of text is a byte of it at least, so the body's bytes bound the prompt, with something for what the engine's
template puts around it. What names something that only the engine can look up has no bound.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from zerotide.api.errors import ErrorCode, Rejection

TEMPLATE = 256
"""Tokens that an engine may put around what the client says."""
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")
_COUNTS = ("n", "best_of")
_WITHOUT_ANSWER = frozenset(("/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize", "/chat_tokenize"))
_ELSEWHERE = frozenset(
    ("image_url", "video_url", "audio_url", "input_image", "file_id", "file_url", "previous_response_id")
)


class Bound(NamedTuple):
    """The most that a request may use; `output` is None where it is open."""

    input: int
    output: int | None
    choices: int


def bound_of(body: bytes, path: str, stream: bool, budget: str) -> Bound:
    """Return the bound of a request that a budget binds which is named in what is raised.

    Raises invalid_request where there is none.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _unbound(budget, "the body is not a JSON object")
    for name in _names(content):
        if name in _ELSEWHERE:
            raise _unbound(budget, f"`{name}` may be any number of tokens", name)
    given = len(body) + TEMPLATE
    if path in _WITHOUT_ANSWER:
        return Bound(given, 0, 1)
    parameters = content.get("parameters")
    places: list[Mapping[str, Any]] = [content, parameters] if isinstance(parameters, dict) else [content]
    limits = [value for place in places for name in _LIMITS if (value := _number(place, name)) is not None]
    choices = math.prod(_largest(places, name) for name in _COUNTS) * _prompts(content)
    if limits:
        return Bound(given, max(limits) * choices, choices)
    if not stream:
        raise _unbound(budget, "give `max_tokens`, or ask for a stream", "max_tokens")
    return Bound(given, None, choices)


def _unbound(budget: str, why: str, param: str | None = None) -> Rejection:
    text = f"budget {budget} is never passed, so tokens are reserved before a request is sent: {why}"
    return Rejection(ErrorCode.INVALID_REQUEST, text, param=param)


def _names(content: Any) -> Iterator[str]:
    """Yield the names of all members, at any depth."""
    rest = [content]
    while rest:
        each = rest.pop()
        if isinstance(each, dict):
            yield from each
            rest += each.values()
        elif isinstance(each, list):
            rest += each


def _number(place: Mapping[str, Any], name: str) -> int | None:
    value = place.get(name)
    return value if type(value) is int and value > 0 else None


def _largest(places: list[Mapping[str, Any]], name: str) -> int:
    return max(_number(place, name) or 1 for place in places)


def _prompts(content: Mapping[str, Any]) -> int:
    """Return how many prompts a body holds that are answered each on its own."""
    most = 1
    for name in ("prompt", "inputs"):
        value = content.get(name)
        if isinstance(value, list) and value and type(value[0]) is not int:
            most = max(most, len(value))
    return most
