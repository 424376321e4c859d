"""Text Generation Inference: the launcher of its image; it serves one model under one name."""

from __future__ import annotations

from zerotide.reconcile.engines.order import HOMELESS, Launch, Order


def launch(order: Order) -> Launch:
    """Return how Text Generation Inference is started, one shard per accelerator."""
    args = ["--model-id", order.model, "--hostname", "0.0.0.0", "--port", str(order.port)]
    if order.revision:
        args += ["--revision", order.revision]
    if order.accelerators > 1:
        args += ["--num-shard", str(order.accelerators)]
    if order.memory_share is not None:
        args += ["--cuda-memory-fraction", order.memory_of("1")]
    env = {**HOMELESS, "HUGGINGFACE_HUB_CACHE": "/tmp/hub", **order.kept(HUGGINGFACE_HUB_CACHE="hub")}
    return Launch((), tuple(args), env, shared_memory=order.accelerators > 1)
