"""Have torch make what a first pass needs, in a process that stands by: threads, kernels, tables of its own."""

from __future__ import annotations

import torch

from zerotide_runtime.engine.hollow import PLAIN, hollow
from zerotide_runtime.engine.model import Step
from zerotide_runtime.engine.runner import Runner

TOKENS = 40  # of a short chat


def rehearse(threads: int) -> None:
    """Run a prompt and a step after it through one layer."""
    runner = Runner(PLAIN, hollow(PLAIN, torch.zeros), TOKENS + 1, threads, blocks=False)
    runner.cache.reserve(1, TOKENS + 1)
    for start, end in ((0, TOKENS), (TOKENS, TOKENS + 1)):
        step = Step(0, torch.arange(start, end)[None], end)
        logits = runner.model.forward(torch.zeros((1, end - start), dtype=torch.long), step, runner.cache)
        torch.log_softmax(logits, dim=-1).max(dim=-1).indices.tolist()
