"""The engine's passes on a GPU: prompts packed side by side, and each decoding step started ahead of its time.

While the tokens of one step become text, the next one runs already, for whoever is likely to go on. Who ends after all
has been computed once too often; who is new waits for the step after.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from zerotide_runtime.engine.batch import Part
from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.embedding import Embedding
from zerotide_runtime.engine.layers import Weights, build_weights
from zerotide_runtime.engine.request import Choice, Sequence
from zerotide_runtime.engine.runner import PROMPT_ODDS_TOKENS, note_odds
from zerotide_runtime.engine.sampler import sample
from zerotide_runtime.gpu.arena import Arena
from zerotide_runtime.gpu.driver import AMPERE
from zerotide_runtime.gpu.kernels import Kernels
from zerotide_runtime.gpu.model import PackedLlama
from zerotide_runtime.gpu.pack import Pack, pack
from zerotide_runtime.gpu.reader import DeviceReader
from zerotide_runtime.gpu.steps import Steps
from zerotide_runtime.gpu.upload import DeviceFile
from zerotide_runtime.weights.mapped import MappedWeights


class Seat(NamedTuple):
    """A sequence's place in a step that has been started, and the position of its token there."""

    place: int
    position: int


class GpuRunner:
    """A loaded model, its arena and its recorded steps."""

    prefill_tokens = 2048
    prefill_rows = 64

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights[Tensor],
        cache_tokens: int,
        most: int,
        kernels: Kernels | None = None,
        *,
        record: bool = True,
    ) -> None:
        self.device, dtype = weights.embedding.device, weights.embedding.dtype
        self.model = PackedLlama(config, weights, kernels)
        tokens = min(cache_tokens, most * config.context)
        self.cache = Arena(config, tokens, most, lambda shape: torch.zeros(shape, dtype=dtype, device=self.device))
        self.steps = Steps(self.model, self.cache, most, record=record)
        self._flight: dict[Sequence, Seat] = {}

    @classmethod
    def load(
        cls,
        config: ModelConfig,
        weights: MappedWeights,
        files: list[DeviceFile],
        cache_tokens: int,
        most: int,
        kernels: Kernels | None = None,
    ) -> GpuRunner:
        """Put a model together over files in the device's memory."""
        reader = DeviceReader(weights, files, dtype_of_device())
        return cls(config, build_weights(config, reader), cache_tokens, most, kernels)

    def takes(self, sequence: Sequence) -> bool:
        """Tell that every sequence can run here."""
        return True

    @torch.inference_mode()
    def prefill(self, parts: list[Part]) -> list[Choice | None]:
        """Compute parts of prompts; return the next token of each that is complete then."""
        for part in parts:
            self._flight.pop(part.sequence, None)  # it was preempted, and starts over
        together = [part for part in parts if not (part.sequence.report.prompt or isinstance(part.sequence, Embedding))]
        found = dict(zip(map(id, together), self._prompts(together), strict=True))
        for part in parts:
            if isinstance(part.sequence, Embedding):
                found[id(part)] = self._embed(part, part.sequence)
            elif part.sequence.report.prompt:
                found[id(part)] = self._with_odds(part)
        return [found[id(part)] for part in parts]

    def _prompts(self, parts: list[Part]) -> list[Choice | None]:
        if not parts:
            return []
        tokens = [part.sequence.uncached(part.limit) for part in parts]
        logits = self.model.run(self._pack(parts, tokens, every=False), self.cache).float()
        ends = [part.sequence.cached + len(own) for part, own in zip(parts, tokens, strict=True)]
        due = [row for row, part in enumerate(parts) if ends[row] == part.sequence.length]
        choices: list[Choice | None] = [None] * len(parts)
        if due:
            drawn = sample(logits[due], [parts[row].sequence for row in due])
            for row, choice in zip(due, drawn, strict=True):
                choices[row] = choice
        for part, end in zip(parts, ends, strict=True):
            part.sequence.cached = end
        return choices

    def _embed(self, part: Part, sequence: Embedding) -> Choice | None:
        """Compute a part of an input whose hidden states are wanted."""
        states = self.model.run_states(self._pack([part], [sequence.uncached(part.limit)], every=True), self.cache)
        return sequence.take(states.float().cpu().numpy())

    def _with_odds(self, part: Part) -> Choice | None:
        """Compute a part of a prompt whose tokens' odds are asked for; their logits are a vocabulary wide each."""
        sequence = part.sequence
        start, tokens = sequence.cached, sequence.uncached(min(part.limit, PROMPT_ODDS_TOKENS))
        logits = self.model.run(self._pack([part], [tokens], every=True), self.cache).float()
        note_odds(sequence, start, logits)
        end = start + len(tokens)
        choice = sample(logits[-1:].clone(), [sequence])[0] if end == sequence.length else None
        sequence.cached = end
        return choice

    def _pack(self, parts: list[Part], tokens: list[list[int]], *, every: bool) -> Pack:
        begun, starts = [part.sequence.cached for part in parts], [self.cache.start(part.row) for part in parts]
        return pack(tokens, begun, starts, self.device, every=every)

    @torch.inference_mode()
    def decode(self, running: list[Sequence]) -> list[Choice | None]:
        """Return the next token of every sequence that the step under way carries, and start the step after it."""
        carried = self._carried(running)
        if not carried:
            self._launch(
                [(row, s.uncached(1)[0]) for row, s in enumerate(running) if s.length == s.cached + 1], running
            )
            carried = self._carried(running)
        self._flight = {}
        choices: list[Choice | None] = [None] * len(running)
        for (row, _), choice in zip(carried, self._choose(running, carried), strict=True):
            running[row].cached += 1
            choices[row] = choice
        self._launch(list(self._going_on(running, choices)), running)
        return choices

    def _carried(self, running: list[Sequence]) -> list[tuple[int, int]]:
        """Return which rows the step under way computes, and where in it."""
        places = ((row, self._flight.get(sequence), sequence) for row, sequence in enumerate(running))
        return [(row, seat.place) for row, seat, s in places if seat and s.length == s.cached + 1 == seat.position + 1]

    def _choose(self, running: list[Sequence], carried: list[tuple[int, int]]) -> list[Choice]:
        """Wait for the step, and return what follows in each of its rows that are asked for."""
        choices: dict[int, Choice] = {}
        asking = [(row, place) for row, place in carried if not takes_the_likeliest(running[row])]
        if asking:
            logits = self.steps.logits[[place for _, place in asking]]
            drawn = sample(logits, [running[row] for row, _ in asking])
            choices = {row: choice for (row, _), choice in zip(asking, drawn, strict=True)}
        if len(asking) < len(carried):
            tokens, odds = self.steps.picks.tolist()
            for row, place in carried:
                if row not in choices:
                    choices[row] = Choice(int(tokens[place]), odds[place])
        return [choices[row] for row, _ in carried]

    def _going_on(self, running: list[Sequence], choices: list[Choice | None]) -> Iterator[tuple[int, int]]:
        """Tell the rows, and their newest tokens, that the next step is to carry, if nothing unforeseen ends them."""
        for row, (sequence, choice) in enumerate(zip(running, choices, strict=True)):
            if choice is None:
                if sequence.length == sequence.cached + 1:
                    yield row, sequence.uncached(1)[0]
            elif choice.token not in sequence.end_tokens and len(sequence.answer) + 1 < sequence.max_new_tokens:
                yield row, choice.token

    def _launch(self, rows: list[tuple[int, int]], running: list[Sequence]) -> None:
        """Start a step of rows with their newest tokens, where the arena has room for them."""
        positions = [running[row].cached for row, _ in rows]
        if rows and max(positions) < self.cache.positions:
            self.steps.launch([token for _, token in rows], positions, [self.cache.start(row) for row, _ in rows])
            seats = enumerate(zip(rows, positions, strict=True))
            self._flight = {running[row]: Seat(place, position) for place, ((row, _), position) in seats}


def dtype_of_device() -> torch.dtype:
    """Return what a GPU computes in: bfloat16, or float32 where it is too old for that."""
    return torch.bfloat16 if torch.cuda.get_device_capability() >= (AMPERE, 0) else torch.float32


def takes_the_likeliest(sequence: Sequence) -> bool:
    """Tell whether nothing but the model's own odds decides on a sequence's next token, and no others are told."""
    setting = sequence.sampling
    changed = not setting.greedy or setting.penalised or setting.bias or setting.watermark
    return not (changed or sequence.constraint is not None or sequence.report.top)
