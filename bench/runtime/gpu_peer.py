"""transformers' continuous batching on a GPU: the same work as `gpu_own`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig, GenerationConfig

from bench.runtime.work import GPU_DECODED, GPU_STREAMS, gpu_prompt


def spent(model: Any, streams: int, tokens: int) -> float:
    """Return the time of one batch."""
    plan = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)  # type: ignore[no-untyped-call]
    prompts = [gpu_prompt(number) for number in range(streams)]
    torch.cuda.synchronize()
    began = time.monotonic()
    answers = model.generate_batch(
        prompts,
        generation_config=plan,
        continuous_batching_config=ContinuousBatchingConfig(max_memory_percent=0.6),
        progress_bar=False,
    )
    took = time.monotonic() - began
    assert [len(answer.generated_tokens) for answer in answers.values()] == [tokens] * streams
    return took


def main(folder: Path) -> None:
    """Print tokens per second, as JSON."""
    loader: Any = AutoModelForCausalLM
    began = time.monotonic()
    model = loader.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa", device_map="cuda").eval()
    found: dict[str, float] = {"load_s": time.monotonic() - began}
    short = 8
    for streams in GPU_STREAMS:
        spent(model, streams, short)
        # What the prompts and the manager's own start take falls out of the difference.
        first, second = spent(model, streams, short), spent(model, streams, GPU_DECODED + short)
        found[f"decode_{streams}"] = streams * GPU_DECODED / (second - first)
        found[f"whole_{streams}"] = streams * (GPU_DECODED + short) / second
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
