"""transformers' continuous batching on a GPU: the same work as `gpu_own`."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig, GenerationConfig

from bench.runtime.work import GPU_DECODED, GPU_STREAMS, gpu_prompt


def spent(model: Any, streams: int, tokens: int, sizes: dict[str, Any]) -> float:
    """Return the time of one batch."""
    plan = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)  # type: ignore[no-untyped-call]
    prompts = [gpu_prompt(number) for number in range(streams)]
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    began = time.monotonic()
    answers = model.generate_batch(
        prompts,
        generation_config=plan,
        continuous_batching_config=ContinuousBatchingConfig(**sizes),
        progress_bar=False,
    )
    took = time.monotonic() - began
    assert [len(answer.generated_tokens) for answer in answers.values()] == [tokens] * streams
    return took


def main(folder: Path) -> None:
    """Print tokens per second as it comes, and with recorded steps, as JSON; the best of each counts."""
    loader: Any = AutoModelForCausalLM
    began = time.monotonic()
    model = loader.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa", device_map="cuda").eval()
    found: dict[str, float] = {"load_s": time.monotonic() - began}
    short = 8
    for kind, sizes in (("", {"max_memory_percent": 0.6}), ("_graphs", {"use_cuda_graph": True})):
        for streams in GPU_STREAMS:
            if kind:
                sizes = {**sizes, "num_blocks": 4 * streams + 8}
            try:
                spent(model, streams, short, sizes)
                # What the prompts and the manager's own start take falls out of the difference.
                first, second = (spent(model, streams, tokens, sizes) for tokens in (short, GPU_DECODED + short))
            except Exception as error:  # not every way works with every kind of attention
                print(f"{streams}{kind}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            found[f"whole_{streams}{kind}"] = streams * (GPU_DECODED + short) / second
            if second > first:  # recording may take longer than computing
                found[f"decode_{streams}{kind}"] = streams * GPU_DECODED / (second - first)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
