"""Server-sent events."""

from __future__ import annotations

from typing import Any

from zerotide_runtime.server.message import dump_json

PING = b":\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event(content: Any, *, space: bool = True) -> bytes:
    """Return one event with a JSON body; TGI writes no space after the colon."""
    return (b"data: " if space else b"data:") + dump_json(content) + b"\n\n"
