"""The work that every engine is given, so that their figures compare."""

from __future__ import annotations

STREAMS = (1, 8, 32)
DECODED = 48
"""Tokens of each stream that count."""
PREFILLED = 1024
"""Tokens of the long prompt."""


def prompt_of(number: int) -> str:
    """Return the chat of one stream: short, and unlike the others."""
    question = f"Tell me in a few sentences what is special about the number {number + 10}, and why people like it."
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


GPU_STREAMS = (1, 32, 256)
GPU_DECODED = 128
GPU_PREFILLED = 4096


def gpu_prompt(number: int) -> list[int]:
    """Return the prompt of one stream: 128 tokens, unlike the others'."""
    return [number % 200, *range(100, 227)]
