"""Choose the next token from its logits without torch: what `sampler` does, for one sequence at a time.

Both draw one number a token from the sequence's own generator, so an answer may change from one to the other.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import numpy.typing as npt

from zerotide_runtime.engine.request import Choice, Report, Sampling, Sequence

Floats = npt.NDArray[np.float32]

# What is known here of a sequence and of its sampling; one with anything else waits for the whole engine.
SAMPLING = (
    *("temperature", "top_k", "top_p", "bias", "seed"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)
GIVEN = (
    *("prompt", "max_new_tokens", "end_tokens", "sampling", "stops", "text", "sink", "report"),
    *("constraint", "salt", "adapter"),
)
STATE = ("cancelled", "number", "started", "answer", "cached", "rng", "prompt_odds", "recalled")


def understands(sequence: Sequence) -> bool:
    """Tell whether a sequence asks for nothing beyond what is known here, now or later."""
    plain = Sampling()
    if dataclasses.replace(sequence.sampling, **{name: getattr(plain, name) for name in SAMPLING}) != plain:
        return False
    if dataclasses.replace(sequence.report, top=0, raw=False) != Report():
        return False
    others = [field for field in dataclasses.fields(sequence) if field.name not in (*GIVEN, *STATE)]
    return all(getattr(sequence, field.name) == field.default for field in others)


def choose(logits: Floats, sequence: Sequence) -> Choice:
    """Return the next token, with log-probabilities under the odds that its report asks for.

    `logits` is changed in place.
    """
    report = sequence.report
    raw = _log_softmax(logits.copy()) if report.raw else None
    setting = sequence.sampling
    if setting.penalised:
        _penalise(logits, sequence)
    for biased, amount in setting.bias:
        logits[biased] += np.float32(amount)
    if sequence.constraint is not None:
        _constrain(logits, sequence.constraint.allowed())
    if not setting.greedy:
        logits /= np.float32(setting.temperature)
        _truncate(logits, setting.top_k, setting.top_p)
    logprobs = _log_softmax(logits)
    token = int(logprobs.argmax()) if setting.greedy else _draw(logprobs, sequence.rng.random())
    told = logprobs if raw is None else raw
    return Choice(token, float(told[token]), _likeliest(told, report.top))


def _log_softmax(logits: Floats) -> Floats:
    """Turn logits into log-probabilities, in place."""
    logits -= logits.max()
    logits -= np.log(np.exp(logits).sum())
    return logits


def _likeliest(logprobs: Floats, count: int) -> tuple[tuple[int, float], ...]:
    """Return the likeliest tokens, those that were ruled out left out."""
    if count == 0:
        return ()
    tokens = np.argsort(-logprobs, kind="stable")[:count]
    return tuple((int(token), float(logprobs[token])) for token in tokens if logprobs[token] > -math.inf)


def _penalise(logits: Floats, sequence: Sequence) -> None:
    setting = sequence.sampling
    if setting.repetition_penalty != 1.0:
        seen = sorted({*sequence.prompt, *sequence.answer})
        scores, penalty = logits[seen], np.float32(setting.repetition_penalty)
        logits[seen] = np.where(scores < 0, scores * penalty, scores / penalty)
    if sequence.answer and (setting.frequency_penalty != 0.0 or setting.presence_penalty != 0.0):
        counts = Counter(sequence.answer)
        times = np.array(list(counts.values()), np.float32)
        logits[list(counts)] -= times * np.float32(setting.frequency_penalty) + np.float32(setting.presence_penalty)


def _constrain(logits: Floats, allowed: bytes | None) -> None:
    """Rule out the tokens whose bit is not set."""
    if allowed is not None:
        bits = np.unpackbits(np.frombuffer(allowed, np.uint8), count=len(logits), bitorder="little")
        logits[bits == 0] = -math.inf


def _truncate(logits: Floats, top_k: int, top_p: float) -> None:
    """Rule out all but the `top_k` likeliest tokens, then all but the fewest that hold `top_p` of the rest's odds."""
    if 0 < top_k < len(logits):
        logits[logits < np.partition(logits, -top_k)[-top_k]] = -math.inf
    if top_p < 1.0:
        places = np.argsort(-logits, kind="stable")
        odds = np.exp(logits[places] - logits[places[0]])
        odds /= odds.sum()
        # A token stays where the likelier ones do not reach top_p yet; the likeliest always does.
        excess = odds.cumsum() - odds >= top_p
        excess[0] = False
        logits[places[excess]] = -math.inf


def _draw(logprobs: Floats, point: float) -> int:
    reached = np.exp(logprobs.astype(np.float64)).cumsum()
    return min(int(np.searchsorted(reached, reached[-1] * point, side="right")), len(logprobs) - 1)
