"""Choose the next token of every sequence of a batch from its logits."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from zerotide_runtime.engine.request import Sequence


@torch.inference_mode()
def sample(logits: Tensor, sequences: list[Sequence]) -> list[tuple[int, float]]:
    """Return each sequence's next token and its log-probability under the odds it was drawn from.

    `logits` is float32 [batch, vocabulary] and is changed in place.
    """
    for row, sequence in enumerate(sequences):
        if sequence.sampling.penalised:
            _penalise(logits[row], sequence)
    drawn = [row for row, sequence in enumerate(sequences) if not sequence.sampling.greedy]
    if drawn:
        settings = [sequences[row].sampling for row in drawn]
        temperatures = torch.tensor([s.temperature for s in settings], device=logits.device)
        logits[drawn] = logits[drawn] / temperatures[:, None]
        for row, setting in zip(drawn, settings, strict=True):
            if setting.top_k > 0 or setting.top_p < 1.0:
                _truncate(logits[row], setting.top_k, setting.top_p)
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.argmax(dim=-1)
    for row in drawn:
        chosen[row] = _draw(logprobs[row], sequences[row].rng.random())
    picked = logprobs.gather(1, chosen[:, None])[:, 0]
    return list(zip(chosen.tolist(), picked.tolist(), strict=True))


def _penalise(logits: Tensor, sequence: Sequence) -> None:
    setting = sequence.sampling
    if setting.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*sequence.prompt, *sequence.answer}), device=logits.device)
        scores = logits[seen]
        penalty = setting.repetition_penalty
        logits[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
    if sequence.answer and (setting.frequency_penalty != 0.0 or setting.presence_penalty != 0.0):
        counts = Counter(sequence.answer)
        tokens = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), device=logits.device)
        logits[tokens] -= times * setting.frequency_penalty + setting.presence_penalty


def _truncate(logits: Tensor, top_k: int, top_p: float) -> None:
    """Rule out all but the `top_k` likeliest tokens, then all but the fewest that hold `top_p` of the rest's odds."""
    if 0 < top_k < logits.shape[-1]:
        threshold = logits.topk(top_k).values[-1]
        logits.masked_fill_(logits < threshold, -math.inf)
    if top_p < 1.0:
        ordered, places = logits.sort(descending=True)
        odds = ordered.softmax(dim=-1)
        # A token stays where the likelier ones do not reach top_p yet; the likeliest always does.
        excess = odds.cumsum(dim=-1) - odds >= top_p
        excess[0] = False
        logits[places[excess]] = -math.inf


def _draw(logprobs: Tensor, point: float) -> Tensor:
    """Return the token whose share of the unit interval holds `point`: one number a token, on any device."""
    reached = logprobs.double().exp().cumsum(dim=-1)
    token = torch.searchsorted(reached, reached[-1] * point, right=True)
    return token.clamp(max=logprobs.shape[-1] - 1)
