"""How many requests wait within an engine, from the page of metrics that it serves."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "vllm:num_requests_waiting": "vLLM",
    "sglang:num_queue_reqs": "SGLang",
    "llamacpp:requests_deferred": "llama.cpp",
    "tgi_queue_size": "Text Generation Inference, and the runtime of this project",
}
_SAMPLE = re.compile(r"^([a-z:_]{1,64})(?:\{[^}\n]{0,4096}\})?[ \t]+([0-9.eE+]{1,32})(?:[ \t]|$)", re.MULTILINE)


def waiting(page: str) -> int | None:
    """Return the sum of all samples that say so, None where there is none."""
    found: list[float] = []
    for name, text in _SAMPLE.findall(page):
        if name in NAMES:
            try:
                found.append(float(text))
            except ValueError:
                continue
    return int(min(sum(found), 10**9)) if found else None
