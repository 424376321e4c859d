"""An answer, and how most of them can be read without a parser: of known length, over a connection that stays.

An API server's answer to a write is nearly always such a one. A parser that calls back for each header takes longer
for it than all the rest of the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]{1,9})\r\n")
_BEGINNINGS = (b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")
_OTHERWISE = (b"transfer-encoding", b"content-encoding", b"connection", b"retry-after")
"""What makes the end of an answer, or what it means, depend on more than its length."""


class Answer(NamedTuple):
    """A whole answer; of its headers, by lower-case name, those that matter here."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class Beginning(NamedTuple):
    """The head of an answer, what came of its body with it, and how many bytes of that have yet to come."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    missing: int


def beginning(data: bytes) -> Beginning | None:
    """Return how an answer begins that came from its first byte on; None where a parser must tell."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.startswith(_BEGINNINGS):
        return None
    head = data[: end + 2].lower()
    found = _LENGTH.search(head)
    if found is None or head.count(b"content-length") != 1 or any(word in head for word in _OTHERWISE):
        return None
    body = data[end + 4 :]
    missing = int(found[1]) - len(body)
    return Beginning(int(data[9:12]), {b"content-length": found[1]}, body, missing) if missing >= 0 else None
