"""The runtime of this project: everything by environment, the image's own command."""

from __future__ import annotations

from zerotide.reconcile.engines.order import Launch, Order


def launch(order: Order) -> Launch:
    """Return how the project's own runtime is started."""
    env = {"ZEROTIDE_MODEL_URI": order.uri, "ZEROTIDE_MODEL_NAME": order.name, "PORT": str(order.port)}
    # Its own limit is lower: what an activator let through must not be refused behind it.
    env["ZEROTIDE_MAX_BODY_BYTES"] = str(order.max_body_bytes)
    if order.aliases:
        env["ZEROTIDE_MODEL_ALIASES"] = ",".join(order.aliases)
    env |= order.kept(ZEROTIDE_CACHE_DIR="hub")
    return Launch(env=env)
