"""Greedy answers of the real model, token by token those of transformers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_engine import Running, collect, make
from tests.runtime.test_quick import Changing
from zerotide_runtime.assets import Assets, load_assets

QUESTIONS = [
    "What is the capital of France?",
    "What is gravity?",
    "Write a haiku about rain.",
]
TOKENS = 16


@pytest.fixture(scope="module")
def assets(published: Path) -> Assets:
    return load_assets(published)


@pytest.fixture(scope="module")
def prompts(assets: Assets) -> list[list[int]]:
    assert assets.template is not None
    rendered = [assets.template.render([{"role": "user", "content": question}]) for question in QUESTIONS]
    return [assets.codec.encode(text, add_special_tokens=False) for text in rendered]


@pytest.fixture(scope="module")
def expected(published: Path, prompts: list[list[int]]) -> list[list[int]]:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(published, dtype=torch.float32)
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        # Without an end token both go on to the same length.
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        answers.append(out[0, len(prompt) :].tolist())
    return answers


def test_alone_and_in_a_batch_greedy_equals_transformers(
    published: Path, assets: Assets, prompts: list[list[int]], expected: list[list[int]]
) -> None:
    with Running(published) as running:
        assert running.answer(prompts[0], TOKENS) == expected[0]
        together = [make(prompt, TOKENS) for prompt in prompts * 2]  # as many as take the layout for batches
        started = time.monotonic()
        for sequence, _ in together:
            running.engine.submit(sequence)
        assert [collect(events) for _, events in together] == expected * 2
        print(f"batch of {len(together)}: {len(together) * TOKENS / (time.monotonic() - started):.0f} tokens/s")
    assert assets.codec.decode(expected[0]).startswith("The capital of France is Paris.")


def test_without_torch_greedy_equals_transformers_too(
    published: Path, prompts: list[list[int]], expected: list[list[int]]
) -> None:
    with Changing(published) as changing:
        for prompt, answer in zip(prompts, expected, strict=True):
            sequence, events = make(prompt, TOKENS)
            changing.engine.submit(sequence)
            assert collect(events) == answer
        assert ("succession", 0) not in changing.recorder.steps


def test_the_template_is_rendered_as_transformers_does(published: Path, assets: Assets) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(published)
    messages = [
        {"role": "system", "content": "Be <brief> & kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    assert assets.template is not None
    for part in (messages, messages[1:]):
        expected = tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=True)
        assert assets.template.render(part) == expected
