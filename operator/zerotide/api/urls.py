"""The forms of URLs: those that users write, before anybody asks where they lead, and those of our own pods."""

from __future__ import annotations

from zerotide.api.bounds import Matches

_HOST = r"://([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
_REST = _HOST + r"(/[A-Za-z0-9._~%/:@=+,-]*)?(\?[A-Za-z0-9._~%/:@=&+,-]*)?$"
HTTPS_URL = Matches("^https" + _REST, "be an https URL without a user or a fragment")
BASE_URL = Matches(
    "^https" + _HOST + r"(/[A-Za-z0-9._~@=+,-]+)*$", "be an https URL without a user, a query or a `/` at its end"
)
HTTP_URL = Matches("^https?" + _REST, "be an https or http URL without a user or a fragment")


def host_of(address: str) -> str:
    """Return an IP address as URLs have it: one of version 6 in brackets."""
    return f"[{address}]" if ":" in address else address
