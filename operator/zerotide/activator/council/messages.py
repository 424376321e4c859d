"""What activators say to each other: a line of JSON each, a list that begins with its kind.

Of one endpoint, `key`:

To the owner of the line: Report (all that its sender has of the endpoint; the first one of every connection), Ask,
Drop, Back, Opened, Closed. From the owner: Grant, Keep, Refuse, Lease, Recall, and NotMine where it does not own it.

Of a limit that all keep together, `name`, such as that of a consumer's requests: to its keeper Told (once for each new
set of leaders and each connection), Want and Return; from the keeper Give, Deny and Fetch. A `turn` numbers a member's
accounts of one name: what is said of an earlier one means nothing.
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
    """Seats by replica, to be used until they are called back; at once, or the first replica would get all."""

    key: str
    seats: dict[str, int]


class Recall(NamedTuple):
    """Somebody waits: give back what is free, and from now on what becomes free."""

    key: str


class NotMine(NamedTuple):
    """The receiver of what was sent does not own the endpoint's line (yet, or any more)."""

    key: str


class Told(NamedTuple):
    """With these leaders, its sender has told all that it uses of the receiver's: by name, its turn and how many."""

    leaders: list[str]
    used: dict[str, list[int]]


class Want(NamedTuple):
    """One more is wanted of a name."""

    name: str
    turn: int
    limit: int


class Return(NamedTuple):
    """So many are given back; the answer to Fetch, which may be 0, `fetched`."""

    name: str
    turn: int
    number: int
    fetched: bool


class Give(NamedTuple):
    """So many more may be used."""

    name: str
    turn: int
    number: int


class Deny(NamedTuple):
    """There is nothing left."""

    name: str
    turn: int


class Fetch(NamedTuple):
    """Somebody wants one: give back what is free, and from now on what becomes free."""

    name: str
    turn: int


Common = Told | Want | Return | Give | Deny | Fetch
Message = Ask | Report | Drop | Back | Opened | Closed | Grant | Keep | Refuse | Lease | Recall | NotMine | Common
_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Ask,
        Report,
        Drop,
        Back,
        Opened,
        Closed,
        Grant,
        Keep,
        Refuse,
        Lease,
        Recall,
        NotMine,
        Told,
        Want,
        Return,
        Give,
        Deny,
        Fetch,
    )
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
    "Lease": (str, dict),
    "Recall": (str,),
    "NotMine": (str,),
    "Told": (list, dict),
    "Want": (str, int, int),
    "Return": (str, int, int, bool),
    "Give": (str, int, int),
    "Deny": (str, int),
    "Fetch": (str, int),
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
    message = _KINDS[name](*fields)
    if not _sound(message):
        raise MalformedTalk(f"{name}: a list or an object of the wrong shape")
    return message


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and [type(each) for each in value] == [int, int]


def _sound(message: Any) -> bool:
    match message:
        case Report():
            numbers = all(type(value) is int for value in message.used.values())
            return numbers and all(isinstance(replica, str) for replica in message.open)
        case Lease():
            return all(type(value) is int for value in message.seats.values())
        case Told():
            pairs = all(map(_is_pair, message.used.values()))
            return pairs and all(isinstance(leader, str) for leader in message.leaders)
        case _:
            return True
