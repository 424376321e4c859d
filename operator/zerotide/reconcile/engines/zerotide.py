"""The runtime of this project: everything by environment, the image's own command."""

from __future__ import annotations

from zerotide.reconcile.engines.order import Launch, Order


def launch(order: Order) -> Launch:
    """Return how the project's own runtime is started."""
    env = {"ZEROTIDE_MODEL_URI": order.uri, "ZEROTIDE_MODEL_NAME": order.name, "PORT": str(order.port)}
    if order.aliases:
        env["ZEROTIDE_MODEL_ALIASES"] = ",".join(order.aliases)
    return Launch(env=env)
