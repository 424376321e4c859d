"""What makes requests of one conversation alike: a header that its client repeats, else the beginning of the prompt.

The beginning is taken from the body as it is written, without decoding it: a client writes one prompt in one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from zerotide.activator.admission.choice import affinity_of

FARTHEST = 1024 * 1024
"""Bytes of a body in which its prompt must begin."""
_SPACE = b" \t\n\r"
_MEMBERS = {
    "/v1/completions": b'"prompt"',
    "/v1/responses": b'"input"',
    "/v1/embeddings": b'"input"',
    "/v1/rerank": b'"query"',
    "/": b'"inputs"',
    "/generate": b'"inputs"',
    "/generate_stream": b'"inputs"',
    "/tokenize": b'"inputs"',
}
_MESSAGES = b'"messages"'


class Routing(NamedTuple):
    """How an endpoint's requests choose their replica; `prefix_bytes` 0 and `sticky_header` empty say: by load."""

    prefix_bytes: int = 0
    max_load_percent: int = 125
    sticky_header: bytes = b""

    @property
    def by_affinity(self) -> bool:
        """Tell whether anything but the load matters."""
        return bool(self.prefix_bytes or self.sticky_header)


def affinity(routing: Routing, header: Callable[[bytes], str], path: str, body: bytes) -> int:
    """Return the affinity of a request, 0 where it has none; `header` returns the value of a header or nothing."""
    if routing.sticky_header:
        value = header(routing.sticky_header)
        if value:
            return affinity_of(b"h" + value.encode("latin-1", "replace"))
    if routing.prefix_bytes:
        prefix = prompt_prefix(path, body, routing.prefix_bytes)
        if prefix:
            return affinity_of(b"p" + prefix)
    return 0


def prompt_prefix(path: str, body: bytes, size: int) -> bytes:
    """Return the first bytes of a JSON body's prompt, empty where it has none."""
    name = _MEMBERS.get(path, _MESSAGES)
    at = body.find(name, 0, FARTHEST)
    while at >= 0:
        start = at + len(name)
        rest = body[start : start + 64].lstrip(_SPACE)
        if rest.startswith(b":"):
            value = body[start : start + 64 + size].lstrip(_SPACE)[1:].lstrip(_SPACE)
            return value[:size]
        at = body.find(name, start, FARTHEST)
    return b""
