"""How many tokens an answer may hold at most, event by event, while it streams.

Where the engine tells its usage as it goes, that is exact. Else an event has as many tokens at most as its text has
bytes, and one for each line of data: an engine may put several tokens into one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zerotide.activator.usage.tap import data_of, tokens_in

_TEXTS = ("delta", "text", "message", "token", "content_block")
_DONE = b"data: [DONE]"


class Meter:
    """Count what passes; `choices` are the answers that are made at once."""

    __slots__ = ("_lines", "_since", "_single", "_told")

    def __init__(self, choices: int) -> None:
        self._single = choices == 1
        self._told = self._since = self._lines = 0

    def after(self, event: bytes) -> int:
        """Return how many tokens there are at most once an event has passed, without letting it pass."""
        told, since, lines = self._with(event)
        # A stream that breaks off is settled by its lines of data where its engine told of fewer tokens.
        return max(told + since, lines)

    def passed(self, event: bytes) -> None:
        """Let an event pass."""
        self._told, self._since, self._lines = self._with(event)

    def _with(self, event: bytes) -> tuple[int, int, int]:
        told, since, before = self._told, self._since, self._lines
        lines = event.count(b"\ndata:") + event.startswith(b"data:")
        if not lines or event.strip() == _DONE:
            return told, since, before + lines
        content = data_of(event)
        if not isinstance(content, dict):
            return told, since + len(event), before + lines
        found = tokens_in(content)
        if found is not None and (self._single or not content.get("choices")):
            return max(found.output, told), 0, before + lines
        return told, since + max(lines, sum(_sizes(content))), before + lines


def _sizes(content: Any) -> Iterator[int]:
    """Yield the sizes of the texts of an event's answers."""
    choices = content.get("choices")
    for place in (content, *(choices if isinstance(choices, list) else ())):
        if isinstance(place, dict):
            for name in _TEXTS:
                yield _size(place.get(name))


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(_size(each) for each in value.values())
    return sum(_size(each) for each in value) if isinstance(value, list) else 0
