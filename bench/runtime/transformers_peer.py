"""transformers: `generate` on a padded batch, and its continuous batching. Run with .venv-runtime."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.configuration_utils import ContinuousBatchingConfig, GenerationConfig

from bench.runtime.work import DECODED, STREAMS, prompt_of

PAGE = 256


def batch(model: Any, tokenizer: Any, streams: int, tokens: int) -> float:
    """Return the processor time of one batch."""
    inputs = tokenizer([prompt_of(number) for number in range(streams)], return_tensors="pt", padding=True)
    before = time.process_time()
    model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    return time.process_time() - before


def continuous(model: Any, tokenizer: Any, streams: int, tokens: int) -> float:
    """Return the processor time of one batch through the manager of continuous batching."""
    prompts = [tokenizer(prompt_of(number))["input_ids"] for number in range(streams)]
    # Without a number of blocks it takes most of the machine's memory.
    sizes = ContinuousBatchingConfig(num_blocks=2 * streams, max_batch_tokens=1024)
    plan = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)  # type: ignore[no-untyped-call]
    before = time.process_time()
    answers = model.generate_batch(prompts, generation_config=plan, continuous_batching_config=sizes)
    took = time.process_time() - before
    assert [len(answer.generated_tokens) for answer in answers.values()] == [tokens] * streams
    return took


def main(folder: Path) -> None:
    """Print tokens per second of processor time, as JSON."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    loader: Any = AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    found: dict[str, float] = {}
    with torch.no_grad():
        batch(model, tokenizer, 2, 4)
        for streams in STREAMS:
            # What the prompts take falls out of the difference.
            spent = batch(model, tokenizer, streams, DECODED + 8) - batch(model, tokenizer, streams, 8)
            found[f"generate_{streams}"] = streams * DECODED / spent
            if streams > 1:
                spent = continuous(model, tokenizer, streams, DECODED + 8) - continuous(model, tokenizer, streams, 8)
                found[f"continuous_{streams}"] = streams * DECODED / spent
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
