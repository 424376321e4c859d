"""Run a batch's forward passes on a processor: the only part of the engine that holds tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from zerotide_runtime.engine.adapter import NO_ADAPTERS, Adapted, Adapter
from zerotide_runtime.engine.arrays import Floats
from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.embedding import Embedding
from zerotide_runtime.engine.execution import OneByOne
from zerotide_runtime.engine.kv import KVCache
from zerotide_runtime.engine.layers import Weights, build_weights
from zerotide_runtime.engine.linear import BLOCKS_PAY_FROM, blocks_are_known
from zerotide_runtime.engine.model import Llama, Step
from zerotide_runtime.engine.pages import own_pages
from zerotide_runtime.engine.quick import QuickRunner
from zerotide_runtime.engine.request import Choice, Sequence
from zerotide_runtime.engine.sampler import sample, score
from zerotide_runtime.engine.tensors import TensorReader
from zerotide_runtime.weights.mapped import MappedWeights

LAID_OUT_AT_ONCE = 4
PROMPT_ODDS_TOKENS = 64  # their logits are a vocabulary wide each


class Runner(OneByOne):
    """A loaded model and its cache."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights[torch.Tensor],
        cache_tokens: int,
        threads: int,
        blocks: bool = True,
        adapters: Mapping[str, Adapter[Floats]] = NO_ADAPTERS,
    ) -> None:
        torch.set_num_threads(threads)
        self.device = weights.embedding.device
        self.model = Llama(config, weights)
        self._adapters = {name: adapter.map(torch.from_numpy) for name, adapter in adapters.items()}
        self._to_lay_out = self.model.linears() if blocks and blocks_are_known(weights.embedding) else []
        self._to_lay_out.reverse()
        self.cache = KVCache(config, cache_tokens, lambda shape: torch.from_numpy(own_pages(shape)))

    @classmethod
    def load(
        cls,
        config: ModelConfig,
        weights: MappedWeights,
        cache_tokens: int,
        threads: int,
        blocks: bool = True,
        adapters: Mapping[str, Adapter[Floats]] = NO_ADAPTERS,
    ) -> Runner:
        """Put a model together on the processor; `blocks` allows its weights to be there twice."""
        # CPUs without bfloat16 arithmetic run it several times slower than float32.
        reader = TensorReader(weights, torch.float32, torch.device("cpu"))
        return cls(config, build_weights(config, reader), cache_tokens, threads, blocks, adapters)

    @classmethod
    def beside(cls, quick: QuickRunner, cache_tokens: int, threads: int, blocks: bool = True) -> Runner:
        """Put a model together over the arrays of the quick path, without copying any."""
        weights = quick.weights.map(torch.from_numpy)
        return cls(quick.config, weights, cache_tokens, threads, blocks, quick.adapters)

    def adopt(self, cache: KVCache) -> None:
        """Go on with what the quick path has computed."""
        self.cache.adopt(cache, torch.from_numpy)

    def takes(self, sequence: Sequence) -> bool:
        """Tell that every sequence can run here."""
        return True

    def prefill_one(self, row: int, sequence: Sequence, limit: int) -> Choice | None:
        """Compute up to `limit` tokens of one sequence; return its next token once none is missing."""
        every = sequence.report.prompt
        tokens = sequence.uncached(min(limit, PROMPT_ODDS_TOKENS) if every else limit)
        start, end = sequence.cached, sequence.cached + len(tokens)
        ids = torch.tensor([tokens], device=self.device)
        step = Step(row, torch.arange(start, end, device=self.device)[None], end, self._adapted([sequence]))
        if isinstance(sequence, Embedding):
            return sequence.take(self.model.states(ids, step, self.cache)[0].numpy())
        logits = self.model.forward(ids, step, self.cache, every=every)
        sequence.cached = end
        if every:
            note_odds(sequence, start, logits[0])
            logits = logits[:, -1]
        return sample(logits, [sequence])[0] if end == sequence.length else None

    def _adapted(self, sequences: list[Sequence]) -> tuple[Adapted, ...]:
        """Return which of a pass's rows have which adapter."""
        names = [sequence.adapter for sequence in sequences]
        return tuple(
            Adapted(torch.tensor([row for row, other in enumerate(names) if other == name]), self._adapters[name])
            for name in dict.fromkeys(names)
            if name
        )

    def decode(self, running: list[Sequence]) -> list[Choice | None]:
        """Compute one token of every running sequence; one that is still in its prompt gets no next token."""
        if len(running) >= BLOCKS_PAY_FROM:
            # A few at each step, so that none of them stands out.
            for _ in range(min(LAID_OUT_AT_ONCE, len(self._to_lay_out))):
                self._to_lay_out.pop().lay_out()
        ids = torch.tensor([sequence.uncached(1) for sequence in running], device=self.device)
        positions = torch.tensor([[sequence.cached] for sequence in running], device=self.device)
        keys = max(sequence.cached for sequence in running) + 1
        logits = self.model.forward(ids, Step(0, positions, keys, self._adapted(running)), self.cache)
        for sequence in running:
            sequence.decoded()
        due = [row for row, sequence in enumerate(running) if sequence.cached == sequence.length]
        choices: list[Choice | None] = [None] * len(running)
        if due:
            drawn = sample(logits if len(due) == len(running) else logits[due], [running[row] for row in due])
            for row, choice in zip(due, drawn, strict=True):
                choices[row] = choice
        return choices


def note_odds(sequence: Sequence, start: int, logits: torch.Tensor) -> None:
    """Keep the odds of the prompt's tokens that follow position `start`; a preempted prompt comes by again."""
    known = len(sequence.prompt_odds) + 1
    following = sequence.prompt[known : start + len(logits) + 1]
    if following:
        rows = logits[known - start - 1 :][: len(following)]
        sequence.prompt_odds += score(rows, following, sequence.report.top)
