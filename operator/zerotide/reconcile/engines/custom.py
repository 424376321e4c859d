"""Any other image: its own command and the user's arguments; the model is told by environment, for those who ask."""

from __future__ import annotations

from zerotide.reconcile.engines.order import Launch, Order


def launch(order: Order) -> Launch:
    """Return how an image that Zerotide knows nothing about is started."""
    env = {"ZEROTIDE_MODEL_URI": order.uri, "ZEROTIDE_MODEL_NAME": order.name, "PORT": str(order.port)}
    if order.cache:
        env["ZEROTIDE_CACHE_DIR"] = order.cache
    return Launch(env=env)
