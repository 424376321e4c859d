"""vLLM: `vllm serve <model>`; several accelerators of one replica share the model by tensor parallelism."""

from __future__ import annotations

import json

from zerotide.reconcile.engines.order import HOMELESS, Launch, Order


def launch(order: Order) -> Launch:
    """Return how vLLM is started; it answers to every name of the model.

    Raises UnsupportedModel for a pinned adapter.
    """
    args = ["--host", "0.0.0.0", "--port", str(order.port)]
    if order.revision:
        args += ["--revision", order.revision]
    if order.accelerators > 1:
        args += ["--tensor-parallel-size", str(order.accelerators)]
    if order.memory_share is not None:
        args += ["--gpu-memory-utilization", order.memory_of("0.9")]
    args += ["--served-model-name", *order.names]
    if order.adapters:
        named = [{"name": f"{order.name}:{adapter.name}", "path": adapter.place} for adapter in order.adapters]
        args += ["--enable-lora", "--lora-modules", *(json.dumps(each) for each in named)]
    kept = order.kept(HF_HOME="huggingface", VLLM_CACHE_ROOT="vllm", TRITON_CACHE_DIR="triton")
    command = ("vllm", "serve", order.model)
    return Launch(command, tuple(args), {**HOMELESS, **kept}, shared_memory=order.accelerators > 1)
