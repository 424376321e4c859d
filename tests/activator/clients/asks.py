"""What clients ask, and what they make of the answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Ask:
    """A request as a client is to send it; `path` stands before the client's own."""

    path: str = "/endpoints/demo/m"
    model: str = "m"
    prompt: str = "The capital of France?"
    headers: dict[str, str] = field(default_factory=dict)
    stream: bool = False

    def at(self, url: str, key: str) -> dict[str, Any]:
        """Return it for a client in another process."""
        return {**asdict(self), "url": url + self.path, "key": key}


@dataclass
class Outcome:
    """What a client returned or raised: the exception's class, the status and the code that it tells."""

    text: str = ""
    error: str = ""
    status: int | None = None
    code: str | None = None
    message: str = ""
