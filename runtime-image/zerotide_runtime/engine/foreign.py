"""Models of other architectures, computed by transformers: slower, one sequence after the other, but any of them.

transformers is imported for such a model only. It is not part of the image; an image with it on top can serve them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.execution import OneByOne
from zerotide_runtime.engine.kv import Alike
from zerotide_runtime.engine.request import Choice, Sequence
from zerotide_runtime.errors import InvalidModel, UnsupportedModel


def foreign_config(folder: Path, refusal: UnsupportedModel) -> ModelConfig:
    """Return what transformers makes of a config.json; raise `refusal` where it is missing or knows it not either."""
    try:
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except ImportError:
        raise refusal from None
    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        raise refusal from None
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or getattr(config, "quantization_config", None):
        raise refusal
    try:
        heads = int(config.num_attention_heads)
        return ModelConfig(
            hidden=int(config.hidden_size),
            intermediate=0,
            layers=int(config.num_hidden_layers),
            heads=heads,
            kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
            vocabulary=int(config.vocab_size),
            context=int(config.max_position_embeddings),
            norm_epsilon=0.0,
            rope_theta=0.0,
            rope_scaling=None,
            tied=False,
            qkv_bias=False,
            dtype="float32",
            foreign=True,
        )
    except AttributeError as missing:
        raise InvalidModel(f"the config of this {config.model_type} lacks what is needed: {missing}") from None


class ForeignCache:
    """The caches of the running sequences by row, in whatever form their model has them."""

    def __init__(self, budget_tokens: int) -> None:
        self._budget = budget_tokens
        self.rows: dict[int, Any] = {}

    def reserve(self, rows: int, positions: int) -> bool:
        """Tell whether `rows` sequences of up to `positions` tokens are within the budget."""
        return rows * positions <= self._budget

    def move(self, source: int, target: int, length: int) -> None:
        """Give one row's cache to another."""
        if source in self.rows:  # not so where the sequence has not begun
            self.rows[target] = self.rows.pop(source)

    def keep(self, row: int, tokens: list[int], salt: str) -> None:
        """Keep nothing: not every model's cache can be cut to a beginning."""

    def recall(self, row: int, tokens: list[int], salt: str, alike: Alike) -> int:
        """Return that nothing is there."""
        return 0

    def clear(self) -> None:
        """Give the memory back."""
        self.rows.clear()


class ForeignRunner(OneByOne):
    """A model that transformers computes."""

    def __init__(self, folder: Path, cache_tokens: int, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self.device, dtype = torch.device("cpu"), torch.float32
        if torch.cuda.is_available():
            self.device, dtype = torch.device("cuda"), torch.bfloat16
        loader: Any = AutoModelForCausalLM
        # Only the format that cannot run code when it is opened.
        self._model = loader.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        self._model.to(self.device).eval()
        self.cache = ForeignCache(cache_tokens)

    def takes(self, sequence: Sequence) -> bool:
        """Tell that every sequence can run here."""
        return True

    def prefill_one(self, row: int, sequence: Sequence, limit: int) -> Choice | None:
        """Compute up to `limit` tokens of one sequence; return its next token once none is missing."""
        import torch
        from transformers import DynamicCache

        from zerotide_runtime.engine.runner import note_odds
        from zerotide_runtime.engine.sampler import sample

        if sequence.cached == 0:
            self.cache.rows[row] = DynamicCache(config=self._model.config)
        tokens, start = sequence.uncached(limit), sequence.cached
        every = sequence.report.prompt
        with torch.inference_mode():
            ids = torch.tensor([tokens], device=self.device)
            kept = 0 if every else 1  # 0 keeps the logits of all tokens
            answer = self._model(ids, past_key_values=self.cache.rows[row], use_cache=True, logits_to_keep=kept)
            logits = answer.logits.float()
        sequence.cached += len(tokens)
        if every:
            note_odds(sequence, start, logits[0])
        return sample(logits[:, -1].clone(), [sequence])[0] if sequence.cached == sequence.length else None

    def decode(self, running: list[Sequence]) -> list[Choice | None]:
        """Compute one token of every running sequence; one that is still in its prompt gets no next token."""
        return [self.prefill_one(row, sequence, 1) for row, sequence in enumerate(running)]
