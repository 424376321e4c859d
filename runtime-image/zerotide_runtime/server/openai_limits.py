"""Check a request against the model that is to answer it."""

from __future__ import annotations

from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.openai_params import Options

MAX_ANSWERS = 1024  # of one request: each of its prompts times `n` or `best_of`


class ContextTooLong(InvalidRequest):
    """Prompt and answer together exceed what the model can hold."""


def answer_length(prompt: list[int], max_tokens: int | None, total: int) -> int:
    """Return how many tokens the answer may have; raise ContextTooLong where prompt and answer exceed `total`.

    One token is generated even where none is wanted, because the odds of a prompt come with it.
    """
    room = total - len(prompt)
    if room < 1 or (max_tokens or 0) > room:
        asked = f" and {max_tokens} in the completion" if max_tokens else ""
        raise ContextTooLong(
            f"This model's maximum context length is {total} tokens. "
            f"However, you requested {len(prompt)} tokens in the prompt{asked}.",
            "messages" if max_tokens is None else "max_tokens",
        )
    return room if max_tokens is None else max(1, max_tokens)


def check_count(prompts: int, best_of: int) -> None:
    """Raise InvalidRequest for more answers than one request may have."""
    if prompts * best_of > MAX_ANSWERS:
        message = f"a request may have at most {MAX_ANSWERS} answers; this one asks for {prompts * best_of}"
        raise InvalidRequest(message, "prompt")


def check_biases(options: Options, vocabulary: int) -> None:
    """Raise InvalidRequest for biases of tokens that the model does not have."""
    for token, _ in options.sampling.bias:
        if token >= vocabulary:
            message = f"`logit_bias` has the token {token}, but the vocabulary has {vocabulary}"
            raise InvalidRequest(message, "logit_bias")
