"""Choose the next token of every sequence of a batch from its logits."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from zerotide_runtime.engine.request import Choice, Sampling, Sequence

# The watermark of Kirchenbauer et al. (2023): half of the vocabulary, another half after each token, is favoured.
WATERMARK_KEY = 15485863
WATERMARK_SHARE = 0.5
WATERMARK_BIAS = 2.0


@torch.inference_mode()
def sample(logits: Tensor, sequences: list[Sequence]) -> list[Choice]:
    """Return each sequence's next token, with log-probabilities under the odds that its report asks for.

    `logits` is float32 [batch, vocabulary] and is changed in place.
    """
    if logits.device.type != "cpu":
        return _sample(logits, sequences)
    pairs = zip(logits.unbind(), sequences, strict=True)
    choices: list[Choice | None] = [_likeliest_of(row) if _plain(sequence) else None for row, sequence in pairs]
    others = [row for row, choice in enumerate(choices) if choice is None]
    if others:
        several = logits if len(others) == len(choices) else logits[others]
        for row, choice in zip(others, _sample(several, _of(sequences, others)), strict=True):
            choices[row] = choice
    return [choice for choice in choices if choice is not None]


def _plain(sequence: Sequence) -> bool:
    """Tell whether a sequence takes the likeliest token of the model's own odds, and asks for no others."""
    setting = sequence.sampling
    changed = setting.penalised or setting.bias or setting.watermark or sequence.constraint is not None
    return setting.greedy and not changed and sequence.report.top == 0


def _likeliest_of(logits: Tensor) -> Choice:
    """Return the likeliest token of one row, which is in a processor's cache while it is gone through."""
    token = int(logits.numpy().argmax())  # in a third of the time that torch takes
    return Choice(token, -float((logits - logits[token]).exp_().sum().log_()))


def _sample(logits: Tensor, sequences: list[Sequence]) -> list[Choice]:
    raw = {row: torch.log_softmax(logits[row], dim=-1) for row, s in enumerate(sequences) if s.report.raw}
    for row, sequence in enumerate(sequences):
        _adjust(logits[row], sequence)
    drawn = [row for row, sequence in enumerate(sequences) if not sequence.sampling.greedy]
    # A processor's cache holds one row; a device is faster with all at once.
    groups: list[list[int] | slice] = [slice(row, row + 1) for row in drawn] if logits.device.type == "cpu" else [drawn]
    for rows in groups if drawn else []:
        settings = [sequence.sampling for sequence in _of(sequences, rows)]
        temperatures = torch.tensor([s.temperature for s in settings], device=logits.device)
        logits[rows] = _truncated(logits[rows] / temperatures[:, None], settings)
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.max(dim=-1).indices  # as argmax, in half the time
    for rows in groups if drawn else []:
        points = torch.tensor([sequence.rng.random() for sequence in _of(sequences, rows)], dtype=torch.float64)
        chosen[rows] = _draw(logprobs[rows], points.to(logits.device))
    for row, odds in raw.items():
        logprobs[row] = odds
    picked = logprobs.gather(1, chosen[:, None])[:, 0]
    tops = [_likeliest(logprobs[row], s.report.top) for row, s in enumerate(sequences)]
    return [Choice(*choice) for choice in zip(chosen.tolist(), picked.tolist(), tops, strict=True)]


def _of(sequences: list[Sequence], rows: list[int] | slice) -> list[Sequence]:
    """Return the sequences of some rows."""
    return sequences[rows] if isinstance(rows, slice) else [sequences[row] for row in rows]


@torch.inference_mode()
def score(logits: Tensor, tokens: list[int], top: int) -> list[Choice]:
    """Return the odds of given tokens; `logits` is float32 [tokens, vocabulary]."""
    logprobs = torch.log_softmax(logits, dim=-1)
    places = torch.tensor(tokens, device=logits.device)
    picked = logprobs.gather(1, places[:, None])[:, 0].tolist()
    return [
        Choice(token, logprob, _likeliest(logprobs[row], top))
        for row, (token, logprob) in enumerate(zip(tokens, picked, strict=True))
    ]


def _likeliest(logprobs: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """Return the likeliest tokens, those that were ruled out left out."""
    if count == 0:
        return ()
    values, tokens = logprobs.topk(min(count, logprobs.shape[-1]))
    pairs = zip(tokens.tolist(), values.tolist(), strict=True)
    return tuple((token, value) for token, value in pairs if value > -math.inf)


def _adjust(logits: Tensor, sequence: Sequence) -> None:
    """Change one sequence's logits as its parameters and its grammar say."""
    setting = sequence.sampling
    if setting.penalised:
        _penalise(logits, sequence)
    if setting.bias:
        tokens = torch.tensor([token for token, _ in setting.bias], device=logits.device)
        logits[tokens] += torch.tensor([amount for _, amount in setting.bias], device=logits.device)
    if setting.watermark:
        _mark(logits, sequence)
    if sequence.constraint is not None:
        _constrain(logits, sequence.constraint.allowed())


def _constrain(logits: Tensor, allowed: bytes | None) -> None:
    """Rule out the tokens whose bit is not set."""
    if allowed is None:
        return
    packed = torch.frombuffer(bytearray(allowed), dtype=torch.uint8).to(logits.device)
    bits = (packed[:, None] >> torch.arange(8, device=logits.device)).bitwise_and_(1).flatten()
    known = min(len(bits), len(logits))
    logits[:known].masked_fill_(bits[:known] == 0, -math.inf)
    logits[known:] = -math.inf


def _mark(logits: Tensor, sequence: Sequence) -> None:
    """Favour the tokens that the last one stands for."""
    last = (sequence.answer or sequence.prompt)[-1]
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(WATERMARK_KEY * last))
    logits[order[: int(len(logits) * WATERMARK_SHARE)].to(logits.device)] += WATERMARK_BIAS


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


def _truncated(logits: Tensor, settings: list[Sampling]) -> Tensor:
    """Rule out all but the `top_k` likeliest tokens of each row, of those all but the fewest that hold `top_p` of the
    odds, and of those all but the ones whose surprise is the most usual and that hold `typical_p`."""
    few = [row for row, setting in enumerate(settings) if 0 < setting.top_k < logits.shape[-1]]
    if few:
        counts = torch.tensor([settings[row].top_k for row in few], device=logits.device)
        likeliest = logits[few].topk(max(settings[row].top_k for row in few)).values
        thresholds = likeliest.gather(1, counts[:, None] - 1)
        logits[few] = logits[few].masked_fill(logits[few] < thresholds, -math.inf)
    nucleus = [row for row, setting in enumerate(settings) if setting.top_p < 1.0]
    if nucleus:
        shares = [settings[row].top_p for row in nucleus]
        logits[nucleus] = _keep_share(logits[nucleus], logits[nucleus].argsort(descending=True), shares)
    typical = [row for row, setting in enumerate(settings) if setting.typical_p < 1.0]
    if typical:
        logprobs = torch.log_softmax(logits[typical], dim=-1)
        entropy = -(logprobs.exp() * logprobs).nansum(dim=-1, keepdim=True)
        shares = [settings[row].typical_p for row in typical]
        logits[typical] = _keep_share(logits[typical], (entropy + logprobs).abs().argsort(), shares)
    return logits


def _keep_share(logits: Tensor, order: Tensor, shares: list[float]) -> Tensor:
    """Rule out all tokens of a row but the first in `order` that together reach a share of the odds; one stays."""
    odds = logits.softmax(dim=-1).gather(1, order)
    # A token stays where those before it do not reach the share yet.
    excess = odds.cumsum(dim=-1) - odds >= torch.tensor(shares, device=logits.device)[:, None]
    excess[:, 0] = False
    return logits.masked_fill(torch.zeros_like(excess).scatter(1, order, excess), -math.inf)


def _draw(logprobs: Tensor, points: Tensor) -> Tensor:
    """Return each row's token whose share of the unit interval holds its point: one number a token, on any device."""
    reached = logprobs.double().exp().cumsum(dim=-1)
    tokens = torch.searchsorted(reached, reached[:, -1:] * points[:, None], right=True)[:, 0]
    return tokens.clamp(max=logprobs.shape[-1] - 1)
