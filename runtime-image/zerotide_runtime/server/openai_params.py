"""Read and check the parameters of OpenAI's requests. Nothing that would change the answer is ignored silently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zerotide_runtime.engine.request import Sampling
from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object, boolean, integer, nested, number, strings, text

MAX_STOPS = 4

# Parameters that this server does not have, with the values that ask for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}


class ContextTooLong(InvalidRequest):
    """Prompt and answer together exceed what the model can hold."""


@dataclass(frozen=True)
class Options:
    """What chat and plain completions have in common."""

    model: str
    max_tokens: int | None
    sampling: Sampling
    stops: tuple[str, ...]
    count: int
    stream: bool
    include_usage: bool


def read_options(source: Object, max_count: int, random_seed: Callable[[], int]) -> Options:
    """Return the checked parameters; raise InvalidRequest, which names the field."""
    for name, harmless in UNSUPPORTED.items():
        value = source.get(name)
        if value is not None and value not in harmless:
            raise InvalidRequest(f"`{name}` is not supported by this server", name)
    model = text(source, "model")
    if model is None:
        raise InvalidRequest("you must provide a `model`", "model")
    stream = boolean(source, "stream")
    options = nested(source, "stream_options")
    if options is not None and not stream:
        raise InvalidRequest("`stream_options` is only allowed when `stream` is true", "stream_options")
    return Options(
        model=model,
        max_tokens=_max_tokens(source),
        sampling=_sampling(source, random_seed),
        stops=_stops(source),
        count=_bounded_integer(source, "n", 1, max_count),
        stream=stream,
        include_usage=boolean(options or {}, "include_usage"),
    )


def _max_tokens(source: Object) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = integer(source, name)
        if value is not None:
            if value < 1:
                raise InvalidRequest(f"`{name}` must be at least 1", name)
            return value
    return None


def _sampling(source: Object, random_seed: Callable[[], int]) -> Sampling:
    seed = integer(source, "seed")
    return Sampling(
        temperature=_bounded(source, "temperature", 0.0, 2.0, 1.0),
        top_p=_bounded(source, "top_p", 0.0, 1.0, 1.0),
        frequency_penalty=_bounded(source, "frequency_penalty", -2.0, 2.0, 0.0),
        presence_penalty=_bounded(source, "presence_penalty", -2.0, 2.0, 0.0),
        seed=random_seed() if seed is None else seed,
    )


def _bounded(source: Object, name: str, low: float, high: float, default: float) -> float:
    value = number(source, name)
    if value is None:
        return default
    if not low <= value <= high:
        raise InvalidRequest(f"`{name}` must be between {low:g} and {high:g}", name)
    return value


def _bounded_integer(source: Object, name: str, low: int, high: int) -> int:
    value = integer(source, name)
    if value is not None and not low <= value <= high:
        raise InvalidRequest(f"`{name}` must be between {low} and {high}", name)
    return low if value is None else value


def _stops(source: Object) -> tuple[str, ...]:
    value = source.get("stop")
    stops = (value,) if isinstance(value, str) else strings(source, "stop")
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"`stop` must have at most {MAX_STOPS} strings", "stop")
    return tuple(stop for stop in stops if stop)


def answer_length(prompt: list[int], max_tokens: int | None, total: int) -> int:
    """Return how many tokens the answer may have; raise ContextTooLong where prompt and answer exceed `total`."""
    room = total - len(prompt)
    if room < 1 or (max_tokens or 0) > room:
        asked = f" and {max_tokens} in the completion" if max_tokens else ""
        raise ContextTooLong(
            f"This model's maximum context length is {total} tokens. "
            f"However, you requested {len(prompt)} tokens in the prompt{asked}.",
            "messages" if max_tokens is None else "max_tokens",
        )
    return max_tokens or room
