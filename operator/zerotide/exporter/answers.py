"""Errors of the exporter's HTTP interface, in the shape of a Kubernetes Status, which every client here reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from zerotide.exporter.errors import ArchiveError, StoreError
from zerotide.exporter.intake import MAX_BODY


class Refusal(Exception):
    """A request that is answered with an error: HTTP status, one word, and a sentence with what to do."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def refusal(status: int, reason: str, message: str) -> web.Response:
    """Return the answer to a request that is refused; 503 asks to try again soon."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": status,
        "reason": reason,
        "message": message,
    }
    return web.json_response(body, status=status, headers={"Retry-After": "1"} if status == 503 else {})


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every failure in one shape."""
    try:
        return await handler(request)
    except Refusal as error:
        return refusal(error.status, error.reason, error.message)
    except StoreError as error:
        return refusal(503, "ServiceUnavailable", f"the ledger cannot be used now: {error}")
    except ArchiveError as error:
        return refusal(503, "ServiceUnavailable", f"the archive cannot be used now: {error}")
    except web.HTTPRequestEntityTooLarge:
        return refusal(413, "RequestEntityTooLarge", f"the body is larger than {MAX_BODY} bytes: send less at a time")
    except web.HTTPException as error:
        return refusal(error.status, (error.reason or "Error").replace(" ", ""), error.text or "")
