"""Where kopf hands over: each event of an endpoint goes into the cache and its key into the queue, no more.

kopf asks a handler's filter about each event, and that is where it is taken in: to choose a handler, call it and note
that it was called takes kopf longer than all that is done here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import kopf

from zerotide.api.names import GROUP, PLURAL_ENDPOINTS, VERSION
from zerotide.kube import Credentials

Event = Callable[[str, dict[str, Any]], None]
"""Take in an event: its type (empty for the first list) and the object."""


def registry(on_event: Event, credentials: Credentials) -> kopf.OperatorRegistry:
    """Return kopf's registry with our handlers alone."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def login(**options: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBECONFIG") or credentials.token is None:
            return kopf.login_with_kubeconfig(**options)
        # kopf asks again when the API server no longer takes the token; the file has been renewed by then.
        return kopf.ConnectionInfo(
            server=credentials.server,
            ca_path="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            token=credentials.token(),
        )

    def taken_in(event: Any, **_: Any) -> bool:
        on_event(event["type"] or "", event["object"])
        return False

    @kopf.on.event(GROUP, VERSION, PLURAL_ENDPOINTS, registry=handlers, when=taken_in)
    async def endpoint(**_: Any) -> None:
        """Have nothing left to do."""

    return handlers
