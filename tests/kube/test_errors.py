"""Every refusal of the API server becomes its own exception."""

from __future__ import annotations

import json

import pytest

from zerotide.kube import errors


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "BadRequest", errors.Invalid),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.Unavailable),
        (503, "ServiceUnavailable", errors.Unavailable),
        (418, "Teapot", errors.ApiError),
    ],
)
def test_status_maps_to_its_class(status: int, reason: str, kind: type[errors.ApiError]) -> None:
    """Callers catch by class, and still see code, reason and message."""
    body = json.dumps({"kind": "Status", "reason": reason, "message": "because"}).encode()
    error = errors.error_from(status, body)
    assert type(error) is kind
    assert (error.status, error.reason, str(error)) == (status, reason, "because")


def test_retry_after_comes_from_the_header_or_the_details() -> None:
    """Both places are used by real servers."""
    body = json.dumps({"details": {"retryAfterSeconds": 3}}).encode()
    assert errors.error_from(429, body).retry_after == 3
    assert errors.error_from(429, body, "7").retry_after == 7
    assert errors.error_from(429, b"{}", "tomorrow").retry_after == 0


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[1]", b"\xff\xfe"])
def test_a_body_that_is_no_status_still_makes_an_error(body: bytes) -> None:
    """A proxy in between may answer with anything."""
    assert isinstance(errors.error_from(502, body), errors.Unavailable)
