"""The forms of URLs that users write: what an address may be made of, before anybody asks where it leads."""

from __future__ import annotations

from zerotide.api.bounds import Matches

_HOST = r"://([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
_REST = _HOST + r"(/[A-Za-z0-9._~%/:@=+,-]*)?(\?[A-Za-z0-9._~%/:@=&+,-]*)?$"
HTTPS_URL = Matches("^https" + _REST, "be an https URL without a user or a fragment")
BASE_URL = Matches(
    "^https" + _HOST + r"(/[A-Za-z0-9._~@=+,-]+)*$", "be an https URL without a user, a query or a `/` at its end"
)
HTTP_URL = Matches("^https?" + _REST, "be an https or http URL without a user or a fragment")
