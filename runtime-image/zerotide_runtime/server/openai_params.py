"""Read and check the parameters of OpenAI's requests. Nothing that would change the answer is ignored silently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from zerotide_runtime.engine.request import Report, Sampling
from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object, boolean, integer, nested, number, strings, text
from zerotide_runtime.server.grammar import Grammar
from zerotide_runtime.server.openai_format import read_format
from zerotide_runtime.server.openai_tools import Tools, read_tools

MAX_STOPS = 4
MAX_BIASES = 1024
CHAT_TOP_LOGPROBS = 20
PLAIN_LOGPROBS = 5
PLAIN_MAX_TOKENS = 16  # what OpenAI generates where a plain completion does not say

# Parameters that this server does not have, with the values that ask for nothing.
UNSUPPORTED_IN_CHATS: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
UNSUPPORTED_IN_COMPLETIONS: dict[str, tuple[Any, ...]] = {
    "suffix": ("",),
    "tools": ([],),
    "response_format": ({"type": "text"},),
}


@dataclass(frozen=True)
class Options:
    """What a request wants of its answers.

    `report` is None where it wants no log-probabilities; only requests of the same `salt` share what is computed;
    `adapter` is what `model` names beside the model. The last fields are for one of the two routes only: `best_of` and
    `echo` for plain completions, `grammar` and `tools` for chats.
    """

    model: str
    max_tokens: int | None
    sampling: Sampling
    stops: tuple[str, ...]
    count: int
    stream: bool
    include_usage: bool
    salt: str = ""
    adapter: str = ""
    report: Report | None = None
    best_of: int = 1
    echo: bool = False
    grammar: Grammar | None = None
    tools: Tools | None = None


def read_chat_options(source: Object, max_count: int, random_seed: Callable[[], int]) -> Options:
    """Return a chat's checked parameters; raise InvalidRequest, which names the field."""
    options = _read_common(source, max_count, random_seed, UNSUPPORTED_IN_CHATS)
    tops = _bounded_integer(source, "top_logprobs", 0, CHAT_TOP_LOGPROBS)
    if tops and not boolean(source, "logprobs"):
        raise InvalidRequest("`top_logprobs` is only allowed when `logprobs` is true", "top_logprobs")
    return replace(
        options,
        max_tokens=_max_tokens(source, "max_completion_tokens", "max_tokens"),
        report=Report(top=tops, raw=True) if boolean(source, "logprobs") else None,
        best_of=options.count,
        grammar=read_format(source),
        tools=read_tools(source),
    )


def read_plain_options(source: Object, max_count: int, random_seed: Callable[[], int]) -> Options:
    """Return a plain completion's checked parameters; raise InvalidRequest, which names the field."""
    options = _read_common(source, max_count, random_seed, UNSUPPORTED_IN_COMPLETIONS)
    echo, tops = boolean(source, "echo"), None
    if source.get("logprobs") is not None:
        tops = _bounded_integer(source, "logprobs", 0, PLAIN_LOGPROBS)
    best_of = options.count
    if source.get("best_of") is not None:
        best_of = _bounded_integer(source, "best_of", 1, max_count)
        if best_of < options.count:
            raise InvalidRequest("`best_of` must not be less than `n`", "best_of")
        if best_of > options.count and options.stream:
            raise InvalidRequest("`best_of` greater than `n` cannot be streamed", "best_of")
    # No tokens at all make sense for the odds of a prompt only.
    max_tokens = _max_tokens(source, "max_tokens", least=0 if echo else 1)
    return replace(
        options,
        max_tokens=PLAIN_MAX_TOKENS if max_tokens is None else max_tokens,
        report=None if tops is None else Report(top=tops, raw=True, prompt=echo),
        best_of=best_of,
        echo=echo,
    )


def _read_common(
    source: Object, max_count: int, random_seed: Callable[[], int], unsupported: dict[str, tuple[Any, ...]]
) -> Options:
    for name, harmless in unsupported.items():
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
        max_tokens=None,
        sampling=_sampling(source, random_seed),
        stops=_stops(source),
        count=_bounded_integer(source, "n", 1, max_count),
        stream=stream,
        include_usage=boolean(options or {}, "include_usage"),
        salt=text(source, "cache_salt") or "",
    )


def _max_tokens(source: Object, *names: str, least: int = 1) -> int | None:
    for name in names:
        value = integer(source, name)
        if value is not None:
            if value < least:
                raise InvalidRequest(f"`{name}` must be at least {least}", name)
            return value
    return None


def _sampling(source: Object, random_seed: Callable[[], int]) -> Sampling:
    seed = integer(source, "seed")
    return Sampling(
        temperature=_bounded(source, "temperature", 0.0, 2.0, 1.0),
        top_p=_bounded(source, "top_p", 0.0, 1.0, 1.0),
        frequency_penalty=_bounded(source, "frequency_penalty", -2.0, 2.0, 0.0),
        presence_penalty=_bounded(source, "presence_penalty", -2.0, 2.0, 0.0),
        bias=_biases(source),
        seed=random_seed() if seed is None else seed,
    )


def _biases(source: Object) -> tuple[tuple[int, float], ...]:
    biases = nested(source, "logit_bias") or {}
    if len(biases) > MAX_BIASES:
        raise InvalidRequest(f"`logit_bias` must have at most {MAX_BIASES} tokens", "logit_bias")
    if not all(token.isascii() and token.isdigit() and len(token) < 10 for token in biases):
        raise InvalidRequest("`logit_bias` must have token ids as its keys", "logit_bias")
    for amount in biases.values():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not -100 <= amount <= 100:
            raise InvalidRequest("`logit_bias` must have numbers between -100 and 100 as its values", "logit_bias")
    return tuple((int(token), float(amount)) for token, amount in biases.items())


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
