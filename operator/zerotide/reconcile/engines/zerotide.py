"""The runtime of this project: everything by environment, the image's own command."""

from __future__ import annotations

from zerotide.reconcile.engines.order import Launch, Order
from zerotide.reconcile.failures import UnsupportedModel


def launch(order: Order) -> Launch:
    """Return how the project's own runtime is started.

    Raises UnsupportedModel for adapters on accelerators.
    """
    env = {"ZEROTIDE_MODEL_URI": order.uri, "ZEROTIDE_MODEL_NAME": order.name, "PORT": str(order.port)}
    # Its own limit is lower: what an activator let through must not be refused behind it.
    env["ZEROTIDE_MAX_BODY_BYTES"] = str(order.max_body_bytes)
    if order.aliases:
        env["ZEROTIDE_MODEL_ALIASES"] = ",".join(order.aliases)
    if order.adapters:
        if order.accelerators:
            raise UnsupportedModel(
                "model.adapters: the runtime of this project serves them on processors only: leave `accelerator` out, "
                "or take the engine vllm or sglang"
            )
        env["ZEROTIDE_ADAPTERS"] = " ".join(f"{adapter.name}={adapter.uri}" for adapter in order.adapters)
    env |= order.kept(ZEROTIDE_CACHE_DIR="hub")
    return Launch(env=env)
