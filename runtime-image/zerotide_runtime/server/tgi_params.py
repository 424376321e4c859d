"""Read and check the parameters of TGI's requests, with TGI's own messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zerotide_runtime.engine.request import Report, Sampling
from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object, boolean, integer, nested, strings, text
from zerotide_runtime.server.grammar import Grammar
from zerotide_runtime.server.tgi_grammar import read_grammar
from zerotide_runtime.server.tgi_sampling import read_sampling
from zerotide_runtime.settings import Settings


@dataclass(frozen=True)
class Bounds:
    """What this server allows of the parameters that cost it most."""

    best_of: int = 2
    stop_sequences: int = 4
    top_n_tokens: int = 5
    prefill_logprobs: bool = False
    adapters: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """Return the bounds that the command line sets."""
        return cls(
            best_of=settings.max_best_of,
            stop_sequences=settings.max_stop_sequences,
            top_n_tokens=settings.max_top_n_tokens,
            prefill_logprobs=settings.prefill_logprobs,
            adapters=tuple(name for name, _ in settings.adapters),
        )


@dataclass(frozen=True)
class Parameters:
    """One request to generate; `seed` is None for greedy answers."""

    inputs: str
    add_special_tokens: bool
    max_new_tokens: int | None
    sampling: Sampling
    seed: int | None
    best_of: int
    stops: tuple[str, ...]
    truncate: int | None
    report: Report
    grammar: Grammar | None
    adapter: str
    return_full_text: bool
    details: bool
    stream: bool


def read_parameters(
    source: Object, *, stream: bool, full_text: bool, random_seed: Callable[[], int], bounds: Bounds = Bounds()
) -> Parameters:
    """Return the checked parameters; `full_text` is the route's default for return_full_text.

    Raise InvalidRequest with TGI's message.
    """
    inputs = read_inputs(source)
    given = nested(source, "parameters")
    # TGI samples where there are no parameters at all, and is greedy where they do not say so.
    fields = {"do_sample": True} if given is None else given
    decoder_details = boolean(fields, "decoder_input_details")
    if stream and decoder_details:
        raise InvalidRequest("`decoder_input_details` == true is not supported when streaming tokens")
    sampling, seed = read_sampling(fields, random_seed)
    best_of = _best_of(fields, bounds.best_of, greedy=sampling.greedy, stream=stream)
    max_new_tokens = integer(fields, "max_new_tokens")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise InvalidRequest("`max_new_tokens` must be strictly positive")
    stops = _stops(fields, bounds.stop_sequences)
    top = _top_tokens(fields, bounds.top_n_tokens)
    return Parameters(
        inputs=inputs,
        add_special_tokens=boolean(source, "add_special_tokens", True),
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        seed=seed,
        best_of=best_of,
        stops=stops,
        truncate=integer(fields, "truncate"),
        report=Report(top=top, prompt=decoder_details and bounds.prefill_logprobs),
        grammar=read_grammar(fields),
        adapter=_adapter(fields, bounds.adapters),
        return_full_text=boolean(fields, "return_full_text", full_text),
        details=boolean(fields, "details") or decoder_details,
        stream=stream,
    )


def read_inputs(source: Object) -> str:
    """Return the prompt; raise InvalidRequest where there is none."""
    inputs = text(source, "inputs")
    if inputs is None:
        raise InvalidRequest("`inputs` must be a string", "inputs")
    if not inputs:
        raise InvalidRequest("`inputs` cannot be empty")
    return inputs


def _best_of(fields: Object, limit: int, *, greedy: bool, stream: bool) -> int:
    best_of = integer(fields, "best_of")
    if best_of is None or best_of == 1:
        return 1
    if best_of < 1 or best_of > limit:
        raise InvalidRequest(f"`best_of` must be > 0 and <= {limit}. Given: {best_of}")
    if greedy:
        raise InvalidRequest("you must use sampling when `best_of` is > 1")
    if integer(fields, "seed") is not None:
        raise InvalidRequest("`seed` must not be set when `best_of` > 1")
    if stream:
        raise InvalidRequest("`best_of` != 1 is not supported when streaming tokens")
    return best_of


def _stops(fields: Object, limit: int) -> tuple[str, ...]:
    stops = strings(fields, "stop")
    if len(stops) > limit:
        raise InvalidRequest(f"`stop` supports up to {limit} stop sequences. Given: {len(stops)}")
    return tuple(stop for stop in stops if stop)


def _top_tokens(fields: Object, limit: int) -> int:
    count = integer(fields, "top_n_tokens") or 0
    if not 0 <= count <= limit:
        raise InvalidRequest(f"`top_n_tokens` must be >= 0 and <= {limit}. Given: {count}")
    return count


def _adapter(fields: Object, known: tuple[str, ...]) -> str:
    adapter = text(fields, "adapter_id")
    if adapter is None:
        return ""
    if not known:
        raise InvalidRequest("`adapter_id` is not supported by this server")
    if adapter not in known:
        raise InvalidRequest(f"`adapter_id` must be one of {', '.join(known)}. Given: {adapter!r}")
    return adapter


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
