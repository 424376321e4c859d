"""Where kopf hands over: each event of an endpoint goes into the cache and its key into the queue, no more.

Every second event is the echo of a status that was written here. kopf does not call a handler for it: to choose and
call one takes it as long as to read the event.
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
Known = Callable[[dict[str, Any]], bool]
"""Tell whether an object is known as it is."""


def registry(on_event: Event, is_known: Known, credentials: Credentials) -> kopf.OperatorRegistry:
    """Return kopf's registry with our handlers alone; what is known already is not told."""
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

    def is_news(event: Any, **_: Any) -> bool:
        return event["type"] == "DELETED" or not is_known(event["object"])

    @kopf.on.event(GROUP, VERSION, PLURAL_ENDPOINTS, registry=handlers, when=is_news)
    async def endpoint(event: Any, **_: Any) -> None:
        on_event(event["type"] or "", dict(event["object"]))

    return handlers
