"""What activators say to each other of one endpoint, `key`; a line of JSON each, a list that begins with its kind.

To the owner of the line: Report (all that its sender has of the endpoint; the first one of every connection), Ask,
Drop, Back, Opened, Closed. From the owner: Grant, Keep, Refuse, Lease, Recall, and NotMine where it does not own it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from zerotide.activator.failures import MalformedTalk


class Ask(NamedTuple):
    """A request that waits, by its number at its activator; times in microseconds since the epoch."""

    key: str
    number: int
    arrived_us: int
    limit_us: int | None
    size: int
    consumer: str
    batch: bool
    affinity: int
    accepted: bool


class Report(NamedTuple):
    """Everything that an activator has: seats in use, replicas that it can reach, requests that wait."""

    key: str
    used: dict[str, int]
    open: list[str]
    asks: list[Ask]


class Drop(NamedTuple):
    """A request that waits no longer."""

    key: str
    number: int


class Back(NamedTuple):
    """Seats at a replica that are given back."""

    key: str
    replica: str
    seats: int


class Opened(NamedTuple):
    """A replica that can be reached."""

    key: str
    replica: str


class Closed(NamedTuple):
    """A replica that can be reached no longer."""

    key: str
    replica: str


class Grant(NamedTuple):
    """A seat for one request."""

    key: str
    number: int
    replica: str


class Keep(NamedTuple):
    """There is room in the line for a request."""

    key: str
    number: int


class Refuse(NamedTuple):
    """A request is to be turned away, with an error code."""

    key: str
    number: int
    code: str
    message: str


class Lease(NamedTuple):
    """Seats at a replica, to be used until they are called back."""

    key: str
    replica: str
    seats: int


class Recall(NamedTuple):
    """Somebody waits: give back what is free, and from now on what becomes free."""

    key: str


class NotMine(NamedTuple):
    """The receiver of what was sent does not own the endpoint's line (yet, or any more)."""

    key: str


Message = Ask | Report | Drop | Back | Opened | Closed | Grant | Keep | Refuse | Lease | Recall | NotMine
_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Ask, Report, Drop, Back, Opened, Closed, Grant, Keep, Refuse, Lease, Recall, NotMine)
}
_SHAPES: dict[str, tuple[type | tuple[type, ...], ...]] = {
    "Ask": (str, int, int, (int, type(None)), int, str, bool, int, bool),
    "Report": (str, dict, list, list),
    "Drop": (str, int),
    "Back": (str, str, int),
    "Opened": (str, str),
    "Closed": (str, str),
    "Grant": (str, int, str),
    "Keep": (str, int),
    "Refuse": (str, int, str, str),
    "Lease": (str, str, int),
    "Recall": (str,),
    "NotMine": (str,),
}


def encode(message: Message) -> bytes:
    """Return a line."""
    return json.dumps([type(message).__name__, *message], separators=(",", ":")).encode() + b"\n"


def decode(line: bytes | str) -> Message:
    """Read a line. Raises MalformedTalk."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedTalk(f"no JSON: {error}") from error
    if not isinstance(content, list) or not content or content[0] not in _KINDS:
        raise MalformedTalk(f"no message that is known here: {str(line)[:100]}")
    name, *fields = content
    if name == "Report" and len(fields) == 4 and isinstance(fields[3], list):
        fields[3] = [_build("Ask", ask) for ask in fields[3]]
    message: Message = _build(name, fields)
    return message


def _build(name: str, fields: Any) -> Any:
    shapes = _SHAPES[name]
    if not isinstance(fields, list) or len(fields) != len(shapes):
        raise MalformedTalk(f"{name} has {len(shapes)} fields")
    for value, shape in zip(fields, shapes, strict=True):
        if not isinstance(value, shape):
            raise MalformedTalk(f"{name}: {value!r} is of the wrong type")
    return _KINDS[name](*fields)
