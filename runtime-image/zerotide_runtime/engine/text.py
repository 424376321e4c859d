"""From tokens to text as it grows: incremental detokenisation and stop strings."""

from __future__ import annotations

from typing import Protocol

INCOMPLETE = "\ufffd"


class Decoder(Protocol):
    """The part of a tokenizer that this module needs."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""
        ...

    def is_special(self, token: int) -> bool:
        """Tell whether a token is markup rather than text."""
        ...


class Detokeniser:
    """Give out text token by token, so that the pieces join to the text of the whole.

    A token may hold a part of a character, and some decoders treat a text's first token differently. So each
    step decodes a short window twice, without and with the new tokens, and gives out the difference.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._window: list[int] = []
        self._known = 0

    def is_special(self, token: int) -> bool:
        """Tell whether a token is markup rather than text."""
        return self._decoder.is_special(token)

    def push(self, token: int) -> str:
        """Add a token; return the text it completes, or "" while a character is incomplete."""
        self._window.append(token)
        before = self._decoder.decode(self._window[: self._known])
        after = self._decoder.decode(self._window)
        if after.endswith(INCOMPLETE):
            return ""
        self._window = self._window[self._known :]
        self._known = len(self._window)
        return after[len(before) :]

    def rest(self) -> str:
        """Return the text of tokens that never became a whole character."""
        before = self._decoder.decode(self._window[: self._known])
        return self._decoder.decode(self._window)[len(before) :]


class StopStrings:
    """Watch a growing text for strings that end it.

    OpenAI's rule: a stop string ends the text wherever it turns up and is not part of it, so text that may
    become one is held back. TGI's rule (`keep`): only a stop string at the very end of the text so far counts,
    and it stays.
    """

    def __init__(self, stops: tuple[str, ...] = (), *, keep: bool = False) -> None:
        self._stops = stops
        self._keep = keep
        self._longest = max((len(stop) for stop in stops), default=0)
        self._tail = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Add text; return what may be shown, and the stop string that was met."""
        if not self._stops:
            return text, None
        if self._keep:
            self._tail = (self._tail + text)[-self._longest :]
            return text, next((stop for stop in self._stops if text and self._tail.endswith(stop)), None)
        self._tail += text
        found = [(self._tail.index(stop), stop) for stop in self._stops if stop in self._tail]
        if found:
            at, stop = min(found)
            return self._tail[:at], stop
        held = self._held()
        shown, self._tail = self._tail[: len(self._tail) - held], self._tail[len(self._tail) - held :]
        return shown, None

    def flush(self) -> str:
        """Return what is still held back, once no more text comes."""
        held, self._tail = ("" if self._keep else self._tail), ""
        return held

    def _held(self) -> int:
        """Count the last characters that could be the beginning of a stop string."""
        for length in range(min(self._longest - 1, len(self._tail)), 0, -1):
            if any(stop.startswith(self._tail[-length:]) for stop in self._stops):
                return length
        return 0
