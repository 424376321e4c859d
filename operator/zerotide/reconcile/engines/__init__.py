"""How each engine is started: one module per engine, one function `launch(order) -> Launch` in each.

Flags are the documented ones of each engine; golden tests hold them. The user's own `runtime.args` come last, so
that they win where an engine takes the last value of a flag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zerotide.api.endpoint import Engine
from zerotide.reconcile.engines import custom, llamacpp, sglang, tgi, vllm, zerotide
from zerotide.reconcile.engines.order import Adapter, Launch, Order
from zerotide.reconcile.failures import UnsupportedModel

__all__ = ["ENGINES", "Adapter", "Launch", "Order", "launch"]

ENGINES: Mapping[Engine, Callable[[Order], Launch]] = {
    Engine.ZEROTIDE: zerotide.launch,
    Engine.VLLM: vllm.launch,
    Engine.SGLANG: sglang.launch,
    Engine.LLAMACPP: llamacpp.launch,
    Engine.TGI: tgi.launch,
    Engine.CUSTOM: custom.launch,
}

ADAPTING = (Engine.ZEROTIDE, Engine.VLLM, Engine.SGLANG)
"""Engines that serve adapters beside a model, each by a name of its own in `model`."""


def launch(engine: Engine, order: Order) -> Launch:
    """Return how to start an engine, the user's arguments included.

    Raises UnsupportedModel where the engine cannot take the model, or its adapters.
    """
    if order.adapters and engine not in ADAPTING:
        raise UnsupportedModel(
            f"model.adapters: the engine {engine} does not serve them by name: use {', '.join(ADAPTING)}, or merge the "
            "adapter into the model"
        )
    made = ENGINES[engine](order)
    return Launch(made.command, (*made.args, *order.args), made.env, made.shared_memory)
