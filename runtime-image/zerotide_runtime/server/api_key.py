"""The one key that a server may be given at its start."""

from __future__ import annotations

import hmac

from zerotide_runtime.server.message import Request, Response, json_response


class ApiKey:
    """Compares what requests bring with the key; without one every request fits."""

    def __init__(self, key: str | None) -> None:
        self._wanted = None if key is None else f"bearer {key}".lower().encode()

    def fits(self, request: Request) -> bool:
        """Tell whether a request may be answered; upper and lower case are alike, as in TGI."""
        if self._wanted is None:
            return True
        return hmac.compare_digest(request.headers.get("authorization", "").lower().encode(), self._wanted)


def unauthorised(request: Request) -> Response:
    """Return the answer for a key that is bad or missing: TGI's has no body."""
    if not request.path.startswith("/v1/"):
        return Response(401)
    message = "The API key is missing or wrong; send it as `Authorization: Bearer KEY`."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    return json_response(401, {"error": error})
