"""Read server-sent events as they come: data, and the comments by which a held request learns of its wake."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_PHASE = "zerotide.phase "


@dataclass(frozen=True)
class Phase:
    """How a request that waits stands; times in milliseconds."""

    state: str
    held: bool
    elapsed_ms: int
    ready_in_ms: int | None


@dataclass(frozen=True)
class Comment:
    """A line that begins with a colon; Zerotide's say how the wake goes."""

    text: str

    def heartbeat(self) -> dict[str, str] | None:
        """Return `state`, `elapsed` and, where known, `ready-in` of a heartbeat; None for other comments."""
        words = self.text.split()
        if not words or words[0] != "zerotide":
            return None
        return dict(word.split("=", 1) for word in words[1:] if "=" in word)

    def phase(self) -> Phase | None:
        """Return what it says of a phase of the wake; None for other comments."""
        if not self.text.startswith(_PHASE):
            return None
        try:
            said = json.loads(self.text.removeprefix(_PHASE))
            ready_in = None if said.get("readyInMs") is None else int(said["readyInMs"])
            return Phase(str(said["state"]), bool(said["held"]), int(said["elapsedMs"]), ready_in)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


@dataclass(frozen=True)
class Data:
    """The data of one event."""

    text: str

    @property
    def done(self) -> bool:
        """Tell whether this ends an OpenAI stream."""
        return self.text == "[DONE]"

    def json(self) -> Any:
        """Return the data decoded; raise ValueError when it is no JSON."""
        return json.loads(self.text)


class EventReader:
    """Turn bytes, cut anywhere, into comments and events in order."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Comment | Data]:
        """Take bytes and return what they complete."""
        # A carriage return at the end may be half of a line end: it waits for what follows.
        whole = self._rest + chunk
        held = b"\r" if whole.endswith(b"\r") else b""
        text = whole[: len(whole) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        found: list[Comment | Data] = []
        for line in lines:
            event = self._take(line.decode("utf-8", "replace"))
            if event is not None:
                found.append(event)
        return found

    def _take(self, line: str) -> Comment | Data | None:
        if not line:
            data, self._data = self._data, []
            return Data("\n".join(data)) if data else None
        if line.startswith(":"):
            return Comment(line[1:].strip())
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        return None
