"""An answer, and how most of them can be read without a parser: of known length, over a connection that stays.

An API server's answer to a write is nearly always such a one. A parser that calls back for each header takes longer
for it than all the rest of the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_OTHERS = rb"(?:\r\n(?!content-|transfer-encoding|connection|retry-after)[^\r\n]++|\r\ncontent-type[^\r\n]++)*+"
"""Header lines that neither say where an answer ends nor that it is to be read in another way."""
_HEAD = re.compile(
    rb"HTTP/1\.1 (20[01]) [^\r\n]*" + _OTHERS + rb"\r\ncontent-length: ([0-9]{1,9})" + _OTHERS + rb"\r\n\r\n",
    re.IGNORECASE,
)


class Answer(NamedTuple):
    """A whole answer; of its headers, by lower-case name, those that matter here."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


def beginning(data: bytes) -> tuple[Answer, int] | None:
    """Return an answer as far as it came, from its first byte on, and how many bytes of its body have yet to come.

    None where a parser must tell.
    """
    head = _HEAD.match(data)
    if head is None:
        return None
    status, length = head.groups()
    body = data[head.end() :]
    missing = int(length) - len(body)
    return (Answer(int(status), {b"content-length": length}, body), missing) if missing >= 0 else None
