"""Read and check the parameters of TGI's requests, with TGI's own messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zerotide_runtime.engine.request import Sampling
from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object, boolean, integer, nested, number, strings, text

MAX_BEST_OF = 2
MAX_STOP_SEQUENCES = 4
MAX_TOP_N_TOKENS = 5


@dataclass(frozen=True)
class Parameters:
    """One request to generate; `seed` is None for greedy answers."""

    inputs: str
    max_new_tokens: int | None
    sampling: Sampling
    seed: int | None
    stops: tuple[str, ...]
    truncate: int | None
    return_full_text: bool
    details: bool
    stream: bool


def read_parameters(source: Object, *, stream: bool, full_text: bool, random_seed: Callable[[], int]) -> Parameters:
    """Return the checked parameters; `full_text` is the route's default for return_full_text.

    Raise InvalidRequest with TGI's message.
    """
    inputs = text(source, "inputs")
    if inputs is None:
        raise InvalidRequest("`inputs` must be a string", "inputs")
    given = nested(source, "parameters")
    # TGI samples where there are no parameters at all, and is greedy where they do not say so.
    fields = {"do_sample": True} if given is None else given
    decoder_details = boolean(fields, "decoder_input_details")
    if stream and decoder_details:
        raise InvalidRequest("`decoder_input_details` == true is not supported when streaming tokens")
    sampling, seed = _sampling(fields, random_seed)
    _refuse_unsupported(fields, greedy=sampling.greedy, stream=stream)
    stops = strings(fields, "stop")
    if len(stops) > MAX_STOP_SEQUENCES:
        raise InvalidRequest(f"`stop` supports up to {MAX_STOP_SEQUENCES} stop sequences. Given: {len(stops)}")
    max_new_tokens = integer(fields, "max_new_tokens")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise InvalidRequest("`max_new_tokens` must be strictly positive")
    if not inputs:
        raise InvalidRequest("`inputs` cannot be empty")
    return Parameters(
        inputs=inputs,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        seed=seed,
        stops=tuple(stop for stop in stops if stop),
        truncate=integer(fields, "truncate"),
        return_full_text=boolean(fields, "return_full_text", full_text),
        details=boolean(fields, "details") or decoder_details,
        stream=stream,
    )


def _sampling(fields: Object, random_seed: Callable[[], int]) -> tuple[Sampling, int | None]:
    temperature, top_k, top_p = number(fields, "temperature"), integer(fields, "top_k"), number(fields, "top_p")
    repetition, frequency = number(fields, "repetition_penalty"), number(fields, "frequency_penalty")
    seed = integer(fields, "seed")
    if temperature is not None and temperature <= 0:
        raise InvalidRequest("`temperature` must be strictly positive")
    if repetition is not None and repetition <= 0:
        raise InvalidRequest("`repetition_penalty` must be strictly positive")
    if frequency is not None and not -2.0 <= frequency <= 2.0:
        raise InvalidRequest("`frequency_penalty` must be >= -2.0 and <= 2.0")
    if top_p is not None and not 0.0 < top_p < 1.0:
        raise InvalidRequest("`top_p` must be > 0.0 and < 1.0")
    if top_k is not None and top_k <= 0:
        raise InvalidRequest("`top_k` must be strictly positive")
    drawn = boolean(fields, "do_sample") or temperature not in (None, 1.0) or top_k is not None or top_p is not None
    used = (random_seed() if seed is None else seed) if drawn else None
    sampling = Sampling(
        temperature=(1.0 if temperature is None else temperature) if drawn else 0.0,
        top_k=top_k or 0,
        top_p=1.0 if top_p is None else top_p,
        repetition_penalty=1.0 if repetition is None else repetition,
        frequency_penalty=frequency or 0.0,
        seed=used or 0,
    )
    return sampling, used


def _refuse_unsupported(fields: Object, *, greedy: bool, stream: bool) -> None:
    """Check the parameters whose only supported value is the one that does nothing."""
    best_of, top_n = integer(fields, "best_of"), integer(fields, "top_n_tokens")
    typical_p = number(fields, "typical_p")
    if best_of is not None and best_of != 1:
        if best_of < 1 or best_of > MAX_BEST_OF:
            raise InvalidRequest(f"`best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {best_of}")
        if greedy:
            raise InvalidRequest("you must use sampling when `best_of` is > 1")
        if integer(fields, "seed") is not None:
            raise InvalidRequest("`seed` must not be set when `best_of` > 1")
        if stream:
            raise InvalidRequest("`best_of` != 1 is not supported when streaming tokens")
        raise InvalidRequest("`best_of` > 1 is not supported by this server")
    if top_n is not None and not 0 <= top_n <= MAX_TOP_N_TOKENS:
        raise InvalidRequest(f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_N_TOKENS}. Given: {top_n}")
    if typical_p is not None and not 0.0 < typical_p < 1.0:
        raise InvalidRequest("`typical_p` must be > 0.0 and < 1.0")
    asked = {
        "top_n_tokens": bool(top_n),
        "typical_p": typical_p is not None,
        "watermark": boolean(fields, "watermark"),
        "grammar": fields.get("grammar") is not None,
        "adapter_id": fields.get("adapter_id") is not None,
    }
    for name, wanted in asked.items():
        if wanted:
            raise InvalidRequest(f"`{name}` is not supported by this server")


def fit(tokens: list[int], parameters: Parameters, total: int) -> tuple[list[int], int]:
    """Return the prompt, truncated as asked, and the most tokens its answer may have.

    `total` bounds both together. Raise InvalidRequest with TGI's message.
    """
    limit = total - 1  # at least one token must be left for the answer
    if parameters.truncate is not None:
        if not 0 < parameters.truncate <= limit:
            raise InvalidRequest(
                f"`truncate` must be strictly positive and less than {limit}. Given: {parameters.truncate}"
            )
        tokens = tokens[-parameters.truncate :]
    if not tokens:
        raise InvalidRequest("`inputs` cannot be empty")
    if len(tokens) > limit:
        raise InvalidRequest(f"`inputs` must have less than {limit} tokens. Given: {len(tokens)}")
    wanted = parameters.max_new_tokens
    if wanted is not None and len(tokens) + wanted > total:
        raise InvalidRequest(
            f"`inputs` tokens + `max_new_tokens` must be <= {total}. "
            f"Given: {len(tokens)} `inputs` tokens and {wanted} `max_new_tokens`"
        )
    return tokens, total - len(tokens) if wanted is None else wanted
