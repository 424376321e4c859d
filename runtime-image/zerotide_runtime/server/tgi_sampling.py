"""Read and check how TGI's requests want tokens chosen, with TGI's own messages."""

from __future__ import annotations

from collections.abc import Callable

from zerotide_runtime.engine.request import Sampling
from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object, boolean, integer, number


def read_sampling(fields: Object, random_seed: Callable[[], int]) -> tuple[Sampling, int | None]:
    """Return how tokens are chosen, and the seed to tell, which is None for greedy answers."""
    temperature, top_k = number(fields, "temperature"), integer(fields, "top_k")
    top_p, typical_p = number(fields, "top_p"), number(fields, "typical_p")
    repetition, frequency = number(fields, "repetition_penalty"), number(fields, "frequency_penalty")
    seed = integer(fields, "seed")
    if temperature is not None and temperature <= 0:
        raise InvalidRequest("`temperature` must be strictly positive")
    if repetition is not None and repetition <= 0:
        raise InvalidRequest("`repetition_penalty` must be strictly positive")
    if frequency is not None and not -2.0 <= frequency <= 2.0:
        raise InvalidRequest("`frequency_penalty` must be >= -2.0 and <= 2.0")
    for name, share in (("top_p", top_p), ("typical_p", typical_p)):
        if share is not None and not 0.0 < share < 1.0:
            raise InvalidRequest(f"`{name}` must be > 0.0 and < 1.0")
    if top_k is not None and top_k <= 0:
        raise InvalidRequest("`top_k` must be strictly positive")
    asked = temperature not in (None, 1.0) or any(value is not None for value in (top_k, top_p, typical_p))
    drawn = boolean(fields, "do_sample") or asked
    used = (random_seed() if seed is None else seed) if drawn else None
    sampling = Sampling(
        temperature=(1.0 if temperature is None else temperature) if drawn else 0.0,
        top_k=top_k or 0,
        top_p=1.0 if top_p is None else top_p,
        typical_p=1.0 if typical_p is None else typical_p,
        repetition_penalty=1.0 if repetition is None else repetition,
        frequency_penalty=frequency or 0.0,
        watermark=boolean(fields, "watermark"),
        seed=used or 0,
    )
    return sampling, used
