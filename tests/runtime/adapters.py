"""LoRA adapters made by PEFT for tiny models, and what PEFT computes with them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERYTHING = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


def base_of(folder: Path) -> Any:
    """Return a model as transformers loads it."""
    from transformers import AutoModelForCausalLM

    family: Any = AutoModelForCausalLM
    return family.from_pretrained(folder, dtype=torch.float32)


@contextlib.contextmanager
def peft_reads_old_names() -> Iterator[None]:
    """Let PEFT ask a model for what this version of transformers calls otherwise by now."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def make_adapter(
    model: Path, target: Path, seed: int = 1, modules: tuple[str, ...] = EVERYTHING, **changes: Any
) -> Path:
    """Have PEFT save a random adapter of a model; as trained ones it changes the answers."""
    from peft import LoraConfig, get_peft_model

    base = base_of(model)
    torch.manual_seed(seed)
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": list(modules), "task_type": "CAUSAL_LM", **changes}
    )
    with peft_reads_old_names():
        adapted = get_peft_model(base, config)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:  # one side begins at zero
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(str(target), save_embedding_layers=False)
    return target


def with_adapter(model: Path, adapter: Path | None) -> Any:
    """Return a model as PEFT computes it, or as it is."""
    from peft import PeftModel

    if adapter is None:
        return base_of(model)
    with peft_reads_old_names():
        return PeftModel.from_pretrained(base_of(model), str(adapter))


@torch.inference_mode()
def reference_logits(model: Path, adapter: Path | None, tokens: torch.Tensor) -> torch.Tensor:
    """Return the logits after each of [1, tokens]."""
    logits: torch.Tensor = with_adapter(model, adapter)(tokens).logits[0]
    return logits


@torch.inference_mode()
def reference_answer(model: Path, adapter: Path | None, prompt: list[int], count: int) -> list[int]:
    """Return the tokens of a greedy answer."""
    answer = with_adapter(model, adapter).generate(
        input_ids=torch.tensor([prompt]), max_new_tokens=count, do_sample=False, pad_token_id=0
    )
    tokens: list[int] = answer[0, len(prompt) :].tolist()
    return tokens
