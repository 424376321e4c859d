"""What an engine says of its load, on the page of metrics that it serves: requests that wait, tokens in flight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WAITING: Mapping[str, str] = {
    "vllm:num_requests_waiting": "vLLM",
    "sglang:num_queue_reqs": "SGLang",
    "llamacpp:requests_deferred": "llama.cpp",
    "tgi_queue_size": "Text Generation Inference, and the runtime of this project",
}
TOKENS: Mapping[str, str] = {
    "sglang:num_used_tokens": "SGLang: those that its cache holds for what runs",
    "tgi_batch_current_max_tokens": "Text Generation Inference, and the runtime of this project: as many as what runs "
    "may come to",
}
SHARES = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
"""vLLM tells the share of its cache that is in use; older ones by the second name."""
SIZE = "vllm:cache_config_info"
"""The cache's size, in the labels of this metric."""
_MOST = 10**9
_SAMPLE = re.compile(r"^([a-z:_]{1,64})(?:\{([^}\n]{0,4096})\})?[ \t]+([0-9.eE+-]{1,32})(?:[ \t]|$)", re.MULTILINE)
_LABEL = re.compile(r'\b(num_gpu_blocks|block_size|kv_cache_size_tokens|engine)="([0-9]{1,12})"')


@dataclass(frozen=True, slots=True)
class Said:
    """Requests that wait within an engine and tokens in flight there; None where the page does not say."""

    waiting: int | None = None
    tokens: int | None = None


def said(page: str) -> Said:
    """Return what a page says; samples of one meaning are added up, and what is no number says nothing."""
    waiting: list[float] = []
    tokens: list[float] = []
    shares: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for name, labels, text in _SAMPLE.findall(page):
        if name == SIZE:
            known = dict(_LABEL.findall(labels))
            sizes[known.get("engine", "")] = _size(known)
        elif name in WAITING or name in TOKENS or name in SHARES:
            value = _number(text)
            if value is None:
                continue
            if name in SHARES:
                shares.setdefault(dict(_LABEL.findall(labels)).get("engine", ""), value)
            else:
                (waiting if name in WAITING else tokens).append(value)
    tokens += [share * sizes[engine] for engine, share in shares.items() if sizes.get(engine)]
    return Said(_sum(waiting), _sum(tokens))


def _size(labels: Mapping[str, str]) -> int:
    """Return how many tokens a cache of vLLM holds, 0 where its labels do not say."""
    told = labels.get("kv_cache_size_tokens")
    return int(told) if told else int(labels.get("num_gpu_blocks", 0)) * int(labels.get("block_size", 0))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value >= 0 else None


def _sum(values: Iterable[float]) -> int | None:
    found = list(values)
    return int(min(sum(found), _MOST)) if found else None
