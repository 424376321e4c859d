"""Facts: what was observed about a pod, in a form that can be recorded any number of times in any order.

A fact is nothing but its key: (cluster, pod uid, kind, key, t_us). Two observers that saw different stamps record two
facts, and the fold chooses between them by rules that do not depend on order. What `key` holds depends on the kind:

    pod          JSON of Identity: which endpoint's replica it is
    allocation   JSON of Allocation: what the scheduler set aside for it
    accelerator  JSON of Accelerator: which device, by which source, in how many parts
    created      ""                    queueing starts (not billed)
    scheduled    the node              allocation starts
    started      the model's container one of its runs starts; after `#` stands the run's number, from the second on
    exited       the same              one of its runs ends
    ready        ""                    the pod turned ready
    backoff      the kubelet's reason  it cannot be started: seen by the meter at that time
    delete       ""                    deletion was asked for
    lost, alive  the node              last proof of life of a node that vanished; proof that it came back
    gone, terminal, finished           ends of the allocation, in rising rank (END_RANK)
"""

from __future__ import annotations

import json
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from zerotide.billing.errors import InvalidFact


class Kind(StrEnum):
    """What a fact says."""

    POD = "pod"
    ALLOCATION = "allocation"
    ACCELERATOR = "accelerator"
    CREATED = "created"
    SCHEDULED = "scheduled"
    STARTED = "started"
    EXITED = "exited"
    READY = "ready"
    BACKOFF = "backoff"
    DELETE = "delete"
    LOST = "lost"
    ALIVE = "alive"
    GONE = "gone"
    TERMINAL = "terminal"
    FINISHED = "finished"


END_RANK = {Kind.FINISHED: 3, Kind.TERMINAL: 2, Kind.GONE: 1}
"""How good a witness of the allocation's end is; the best one wins.

finished: the node's own stamps of the last container. terminal: the API server's stamps of a pod that ended without
them (evicted, its node deleted, deleted before it ran). Both are moments at which it still was, so the latest one
counts: a pod that backed off shows no more, after the kubelet's last word, that its deletion was asked for after its
exit. gone: the moment the meter missed the pod, or saw that it had ended: the earliest one counts.
"""


class Fact(NamedTuple):
    """One observation; equal facts are one fact."""

    cluster: str
    pod_uid: str
    kind: str
    key: str
    t_us: int


class Identity(NamedTuple):
    """Whose replica a pod is."""

    namespace: str
    endpoint: str
    pod: str


class Allocation(NamedTuple):
    """What the scheduler set aside for a pod: devices of an extended resource, thousandths of a core, bytes."""

    resource: str = ""
    units: int = 0
    cpu_milli: int = 0
    memory_bytes: int = 0


class Accelerator(NamedTuple):
    """Which device a pod holds, by its price class; each allocated unit is `of` of `parts` equal parts of a device.

    `source` ranks the witness: SOURCE_SPEC (the endpoint says so) beats SOURCE_NODE (a label of the node).
    """

    source: int
    class_name: str
    parts: int = 1
    of: int = 1

    @property
    def share(self) -> Fraction:
        """Return what part of a device each allocated unit is."""
        return Fraction(self.of, self.parts)


SOURCE_NODE = 1
SOURCE_SPEC = 2


def encode(value: Identity | Allocation | Accelerator) -> str:
    """Return the one JSON text of these values, fit to be a fact's key."""
    # Where it is one part, the text that it always had: facts that are recorded stay the same facts.
    shown = value[:3] if isinstance(value, Accelerator) and value.of == 1 else value
    return json.dumps(shown, separators=(",", ":"), ensure_ascii=False)


def decode_identity(key: str) -> Identity:
    """Read an identity back; raise InvalidFact when the key holds none."""
    values = _values(key)
    # Each pod has an identity of its own, and to match a pattern takes longer than to read the text.
    if isinstance(values, list) and list(map(type, values)) == _IDENTITY:
        return Identity._make(values)
    raise InvalidFact(f"{key!r} does not hold the identity of a pod")


@lru_cache(maxsize=1024)
def decode_allocation(key: str) -> Allocation:
    """Read an allocation back; raise InvalidFact when the key holds none."""
    match _values(key):
        case [str(resource), int(units), int(cpu_milli), int(memory_bytes)]:
            return Allocation(resource, units, cpu_milli, memory_bytes)
    raise InvalidFact(f"{key!r} does not hold the allocation of a pod")


@lru_cache(maxsize=1024)
def decode_accelerator(key: str) -> Accelerator:
    """Read an accelerator back; raise InvalidFact when the key holds none."""
    match _values(key):
        case [int(source), str(class_name), int(parts)] if parts > 0:
            return Accelerator(source, class_name, parts)
        case [int(source), str(class_name), int(parts), int(of)] if parts >= of > 1:
            return Accelerator(source, class_name, parts, of)
    raise InvalidFact(f"{key!r} does not hold an accelerator")


def run_key(container: str, number: int) -> str:
    """Return the key of a run's start and exit."""
    # The first run has the text that all of them once had: most facts that are recorded stay the same facts.
    return f"{container}#{number}" if number else container


def run_number(key: str) -> int:
    """Return the number of the run that a start or an exit is of."""
    number = key.rpartition("#")[2] if "#" in key else ""
    return int(number) if number.isdecimal() else 0


_decoder = json.JSONDecoder()
_IDENTITY = [str, str, str]


def _values(key: str) -> object:
    # Keys are written without space around them, so there is nothing to skip, which takes longer than to read them.
    try:
        value, end = _decoder.raw_decode(key)
    except ValueError as error:
        raise InvalidFact(f"{key!r} is not JSON: {error}") from error
    if end != len(key):
        raise InvalidFact(f"{key!r} is not JSON: there is more after its end")
    return value
