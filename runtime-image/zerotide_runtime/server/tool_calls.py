"""Find the calls of functions in a growing text. Pure: however the text is cut, the parts join to the same.

A call's arguments are passed on as the model writes them, so that they can be streamed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from zerotide_runtime.tool_formats import Format

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([a-zA-Z0-9_-]{1,64})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
KEYS = ('{"name":"', '{"arguments":{', '{"parameters":{')


@dataclass(frozen=True)
class Said:
    """Text that is for the user."""

    text: str


@dataclass(frozen=True)
class Called:
    """The beginning of a call."""

    name: str


@dataclass(frozen=True)
class Argued:
    """A piece of the JSON that holds the last call's arguments."""

    text: str


Part = Said | Called | Argued


class ObjectEnd:
    """Find the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False

    def find(self, text: str) -> int | None:
        """Return the place behind the object's last brace, or None where it is not in this piece."""
        for place, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = char == "\\", char != '"'
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return place + 1
        return None


class CallParser:
    """Tell text and calls of known functions apart; what only resembles a call is text."""

    def __init__(self, form: Format, names: frozenset[str], *, parallel: bool = True) -> None:
        self._form = form
        self._names = names
        self._parallel = parallel
        self._buffer = ""
        self._passed = ""
        self._calls = 0
        self._end = ObjectEnd()
        # Each state works on the buffer and returns whether another one should go on.
        self._state: Callable[[list[Part]], bool] = self._anywhere if form.anywhere else self._beginning

    @property
    def called(self) -> bool:
        """Tell whether there was a call."""
        return self._calls > 0

    def push(self, text: str) -> list[Part]:
        """Add text; return the parts that are certain now."""
        self._buffer += text
        parts: list[Part] = []
        while self._state(parts):
            pass
        return [part for part in parts if isinstance(part, Called) or part.text]

    def finish(self) -> list[Part]:
        """Return what is still held back, once no more text comes."""
        parts: list[Part] = []
        if self._state == self._head:
            self._reject(parts)
        if self._state in (self._anywhere, self._beginning, self._plain):
            self._say(parts, self._buffer)
        self._buffer = ""
        return [part for part in parts if not isinstance(part, Said) or part.text]

    def _say(self, parts: list[Part], text: str) -> None:
        # The space around calls is layout.
        if text.strip() or not self.called:
            parts.append(Said(text))

    def _anywhere(self, parts: list[Part]) -> bool:
        opening = self._form.opening
        at = self._buffer.find(opening)
        if at < 0:
            held = _overlap(self._buffer, opening)
            shown = len(self._buffer) - held
            if self.called and not self._buffer[:shown].strip():
                return False
            self._say(parts, self._buffer[:shown])
            self._buffer = self._buffer[shown:]
            return False
        self._say(parts, self._buffer[:at])
        self._enter(self._buffer[at + len(opening) :], opening)
        return True

    def _enter(self, rest: str, passed: str) -> None:
        """Expect a call; `passed` is what announced it, which is text where none follows."""
        self._buffer, self._passed, self._state = rest, passed, self._head

    def _beginning(self, parts: list[Part]) -> bool:
        text, marker = self._buffer.lstrip(), self._form.marker
        if marker and text.startswith(marker):
            text = text[len(marker) :].lstrip()
        elif marker.startswith(text):
            return False  # also where there is nothing yet
        if not text:
            return False
        if text.startswith(self._form.opening or "{"):
            self._enter(text[len(self._form.opening) :], self._form.opening)
        else:
            self._state = self._plain
        return True

    def _plain(self, parts: list[Part]) -> bool:
        self._say(parts, self._buffer)
        self._buffer = ""
        return False

    def _head(self, parts: list[Part]) -> bool:
        match = HEAD.match(self._buffer)
        if match is not None and match[1] in self._names:
            self._buffer = self._buffer[match.end() :]
            self._begin(parts, match[1])
            self._end = ObjectEnd()
            self._state = self._arguments
            return True
        taken = False
        if match is None and self._may_be_head():
            end = ObjectEnd().find(self._buffer)
            if end is None:
                return False
            taken = self._whole_call(parts, end)
        if not taken:
            self._reject(parts)
        return True

    def _reject(self, parts: list[Part]) -> None:
        """Go on as after text: it was not a call."""
        self._buffer = self._passed + self._buffer
        shown = self._passed if self._form.anywhere else ""
        self._say(parts, shown)
        self._buffer = self._buffer[len(shown) :]
        self._state = self._anywhere if self._form.anywhere else self._plain

    def _begin(self, parts: list[Part], name: str) -> None:
        self._calls += 1
        if self._wanted:
            parts.append(Called(name))

    def _may_be_head(self) -> bool:
        compact = re.sub(r"\s", "", self._buffer)
        return any(compact.startswith(key) or key.startswith(compact) for key in KEYS)

    def _whole_call(self, parts: list[Part], end: int) -> bool:
        """Take a call that ends at `end` and whose arguments stand before its name; return whether it is one."""
        try:
            call = json.loads(self._buffer[:end])
        except ValueError:
            return False
        arguments = call.get("arguments", call.get("parameters"))
        if call.get("name") not in self._names or not isinstance(arguments, dict):
            return False
        self._begin(parts, call["name"])
        if self._wanted:
            parts.append(Argued(json.dumps(arguments, ensure_ascii=False)))
        self._buffer = self._buffer[end - 1 :]
        self._state = self._tail
        return True

    @property
    def _wanted(self) -> bool:
        return self._parallel or self._calls == 1

    def _arguments(self, parts: list[Part]) -> bool:
        end = self._end.find(self._buffer)
        taken = self._buffer if end is None else self._buffer[:end]
        if self._wanted:
            parts.append(Argued(taken))
        self._buffer = self._buffer[len(taken) :]
        if end is not None:
            self._state = self._tail
        return end is not None

    def _tail(self, parts: list[Part]) -> bool:
        """Skip what closes a call."""
        text = self._buffer.lstrip()
        if not text:
            return False
        self._buffer = text.removeprefix("}")
        self._state = self._between
        return True

    def _between(self, parts: list[Part]) -> bool:
        text, closing, separator = self._buffer.lstrip(), self._form.closing, self._form.separator.strip()
        if not text or (self._form.anywhere and text != closing and closing.startswith(text)):
            return False
        if separator and text.startswith(separator):
            self._enter(text[len(separator) :], separator)
        else:
            self._buffer = text.removeprefix(closing)
            self._state = self._anywhere if self._form.anywhere else self._plain
        return True


def _overlap(text: str, opening: str) -> int:
    """Count the last characters of a text that could begin an opening."""
    return next((n for n in range(min(len(text), len(opening) - 1), 0, -1) if opening.startswith(text[-n:])), 0)
