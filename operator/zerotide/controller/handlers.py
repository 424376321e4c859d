"""Where kopf hands over: each event of an endpoint goes into the cache and its key into the queue, no more.

kopf asks a handler's filter about each event, and that is where it is taken in: to choose a handler, call it and note
that it was called takes kopf longer than all that is done here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from zerotide.api.names import GROUP, PLURAL_ENDPOINTS, VERSION
from zerotide.controller.echoes import Known, session
from zerotide.kube import Credentials

Event = Callable[[str, dict[str, Any]], None]
"""Take in an event: its type (empty for the first list) and the object."""


def registry(on_event: Event, credentials: Credentials, known: Known) -> kopf.OperatorRegistry:
    """Return kopf's registry with our handlers alone; of versions that are known it need not hear."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        # kopf asks again when the API server no longer takes the token; the file has been renewed by then.
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session(credentials, known))

    def taken_in(event: Any, **_: Any) -> bool:
        on_event(event["type"] or "", event["object"])
        return False

    @kopf.on.event(GROUP, VERSION, PLURAL_ENDPOINTS, registry=handlers, when=taken_in)
    async def endpoint(**_: Any) -> None:
        """Have nothing left to do."""

    return handlers
