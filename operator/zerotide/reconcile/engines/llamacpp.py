"""llama.cpp's server: GGUF files by path, or a repository of the Hub, from which it picks a quantization itself.

It takes no revision of a repository; a pinned model has to come by path. Layers go to the accelerators by themselves.
"""

from __future__ import annotations

from zerotide.reconcile.engines.order import HOMELESS, Launch, Order
from zerotide.reconcile.failures import UnsupportedModel


def launch(order: Order) -> Launch:
    """Return how llama.cpp's server is started, its metrics enabled.

    Raises UnsupportedModel for a pinned revision.
    """
    if order.revision:
        raise UnsupportedModel(
            f"model.uri: llama.cpp cannot fetch the revision {order.revision}: leave it out, or serve a GGUF file from "
            "a volume with pvc://"
        )
    source = ["--hf-repo", order.repository] if order.repository else ["--model", order.path]
    args = [*source, "--alias", ",".join(order.names), "--host", "0.0.0.0", "--port", str(order.port), "--metrics"]
    return Launch((), tuple(args), {**HOMELESS, **order.kept(LLAMA_CACHE="llama.cpp")})
