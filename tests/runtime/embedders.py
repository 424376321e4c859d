"""Tiny models that say how they embed, and what transformers makes of the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from tests.runtime.models import make_tiny

KIND = "sentence_transformers.models."


def make_embedder(
    folder: Path, mode: str = "lasttoken", *, normalise: bool = True, kind: str = "qwen3", **changes: Any
) -> Path:
    """Write a random model with sentence-transformers' files; `mode` is a pooling's name as in those files."""
    make_tiny(folder, kind, **{"head_dim": 16, "tie_word_embeddings": True, **changes})
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{KIND}Transformer"}]
    modules.append({"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{KIND}Pooling"})
    if normalise:
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{KIND}Normalize"})
    (folder / "modules.json").write_text(json.dumps(modules))
    flags = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}
    pooling = {f"pooling_mode_{flag}": name == mode for name, flag in flags.items()}
    (folder / "1_Pooling").mkdir()
    content = {"word_embedding_dimension": 48, "include_prompt": True, **pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(content))
    return folder


def reference(
    folder: Path, prompts: list[list[int]], mode: str, *, normalise: bool = True, size: int | None = None
) -> torch.Tensor:
    """Return what transformers' last hidden states, which are normalised, come to by a pooling: [prompts, size]."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    with torch.inference_mode():
        for prompt in prompts:
            states = model(torch.tensor([prompt])).last_hidden_state[0].double()
            rows.append({"cls": states[0], "mean": states.mean(0), "lasttoken": states[-1]}[mode])
    cut = torch.stack(rows)[:, :size]
    return F.normalize(cut, dim=-1) if normalise else cut
