"""The tokenizer rebuilt from GGUF metadata, against the one that transformers rebuilds."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.runtime.models import smollm2_gguf
from zerotide_runtime.codec import Codec
from zerotide_runtime.errors import GGUFError, InvalidModel, InvalidRequest, UnsupportedModel
from zerotide_runtime.weights.gguf_tokenizer import build_tokenizer

TEXTS = [
    "Hello world",
    "What is the capital of France?",
    "<|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\n",
    "a 12 b and 3.14159, 2024-11-22",
    "don't I'll they've we're it's",
    "  leading, trailing  ",
    "tabs\tand\n\n\nlines  of   spaces",
    "héllo ünï 漢字 かな 한글 עברית",
    "emoji 🎉👩‍👩‍👧‍👦 flags 🇮🇹",
    "def f(x: int) -> str:\n    return f'{x!r}'  # note\n",
    "https://example.org/a?b=c&d=%20#e",
    "ALLCAPS mixedCase snake_case kebab-case",
    "…—“quotes”‘single’ ¿qué?",
    "   ",
    "\n",
    "x" * 300,
]


@pytest.fixture(scope="module")
def codec(published: Path) -> Codec:
    return Codec(published / "tokenizer.json")


def test_the_same_tokens_as_transformers(codec: Codec) -> None:
    from transformers import AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = AutoTokenizer.from_pretrained(smollm2_gguf().parent, gguf_file=smollm2_gguf().name)
    for text in TEXTS:
        expected = reference(text, add_special_tokens=False)["input_ids"]
        assert codec.encode(text, add_special_tokens=False) == expected, text


def test_digits_stand_alone_as_the_model_learned_it(codec: Codec) -> None:
    # transformers forgets this rule of "smollm" in GGUF files, and differs where a number follows spaces.
    assert [codec.name(token) for token in codec.encode("a  12", add_special_tokens=False)] == ["a", "ĠĠ", "1", "2"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_round_trip(codec: Codec, text: str) -> None:
    tokens = codec.encode(text, add_special_tokens=False)
    plain = "".join(codec.name(token) if codec.is_special(token) else codec.decode([token]) for token in tokens)
    if not any(codec.is_special(token) for token in tokens):
        assert codec.decode(tokens) == text
    assert plain.count("<|im_start|>") == text.count("<|im_start|>")


def test_half_a_character_is_the_clients_fault(codec: Codec) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        codec.encode("\ud83c", add_special_tokens=False)


def test_other_tokenizers_are_named() -> None:
    with pytest.raises(UnsupportedModel, match="llama/default"):
        build_tokenizer({"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default"})


def test_a_missing_vocabulary_is_named() -> None:
    with pytest.raises(GGUFError, match=r"tokenizer\.ggml\.tokens"):
        build_tokenizer({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"})


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidModel, match="cannot be read as a tokenizer"):
        Codec(tmp_path / "tokenizer.json")
