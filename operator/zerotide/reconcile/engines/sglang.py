"""SGLang: its launch module; it listens on loopback and port 30000 unless told otherwise."""

from __future__ import annotations

import json

from zerotide.reconcile.engines.order import HOMELESS, Launch, Order


def launch(order: Order) -> Launch:
    """Return how SGLang is started; it knows one served name only.

    Raises UnsupportedModel for a pinned adapter.
    """
    args = ["--model-path", order.model, "--served-model-name", order.name]
    args += ["--host", "0.0.0.0", "--port", str(order.port)]
    if order.revision:
        args += ["--revision", order.revision]
    if order.accelerators > 1:
        args += ["--tensor-parallel-size", str(order.accelerators)]
    if order.memory_share is not None:
        args += ["--mem-fraction-static", order.memory_of("0.85")]
    if order.adapters:
        # Its requests name an adapter as ours do, behind the model and a colon.
        named = [{"lora_name": adapter.name, "lora_path": adapter.place} for adapter in order.adapters]
        args += ["--enable-lora", "--lora-paths", *(json.dumps(each) for each in named)]
    command = ("python3", "-m", "sglang.launch_server")
    kept = order.kept(HF_HOME="huggingface", TORCHINDUCTOR_CACHE_DIR="inductor", TRITON_CACHE_DIR="triton")
    return Launch(command, tuple(args), {**HOMELESS, **kept}, shared_memory=order.accelerators > 1)
