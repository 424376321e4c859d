"""Usage records: what the activator writes down about each attempt to serve a request.

An `Intent` is written before the first byte goes to a replica, a `Settlement` when the attempt has ended. Both carry
the key (request id, attempt), and with their kind it is unique: a record that arrives twice counts once. The request
id is the activator's own, never one that a client chose. `Unrecorded` says how many attempts have neither.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from zerotide.api.base import describe
from zerotide.api.failures import InvalidRecord
from zerotide.api.lines import Count, Line, Us


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    """The replica's answer was passed on whole, whatever its status."""
    CLIENT_GONE = "client_gone"
    """The client left before the end; the replica was told to stop."""
    LOST = "lost"
    """The connection to the replica broke."""
    TIMED_OUT = "timed_out"
    """The answer took longer than request.timeout."""
    OVER_BUDGET = "over_budget"
    """What was reserved of a budget for its answer was used up, and nothing was left."""
    ABANDONED = "abandoned"
    """The activator died; settled when its log was found."""


class RecordKey(NamedTuple):
    """Identity of a record: the same key is the same fact."""

    request_id: str
    attempt: int
    kind: str


MOST_TOKENS = 1_000_000_000
"""Of one attempt: more is no count, and no ledger could add up many of them in 64 bits."""
TokenCount = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


class Tokens(Line):
    """Tokens as the engine counted them; `cached` is a part of `input`."""

    input: TokenCount
    cached: TokenCount = 0
    output: TokenCount
    estimated: bool = False
    """Whether `output` is what was passed on of a stream that was cut, one for each event with text; `input` is then
    0 unless the engine had told it by then."""


class Intent(Line):
    """An attempt that is about to be sent to a replica."""

    kind: Literal["intent"] = "intent"
    request_id: Annotated[str, Field(min_length=1, max_length=64)]
    attempt: Annotated[int, Field(ge=1)]
    namespace: str
    endpoint: str
    endpoint_uid: str
    consumer: str
    """Who pays, `namespace/name`."""
    key_id: str = ""
    """Name of the APIKey, empty where the endpoint is open."""
    pod_uid: str
    activator: str
    model: str
    adapter: Annotated[str, Field(max_length=63)] = ""
    """The adapter of the model that was asked for, empty for the model itself."""
    stream: bool
    cold: bool
    """Whether the request was held while no replica was ready."""
    wake_id: str = ""
    """The wake request that it waited for, empty where none. A wake that is over within a second or so is named after
    that: its requests bear the name of the wake before it, or their pod's uid where there was none."""
    accepted_us: Us
    """When it was authenticated and admitted."""
    forwarded_us: Us
    """When it was handed to the replica."""
    request_bytes: Count
    idempotency_key: Annotated[str, Field(max_length=256)] = ""

    @property
    def key(self) -> RecordKey:
        """Return the identity of the record."""
        return RecordKey(self.request_id, self.attempt, self.kind)


class Settlement(Line):
    """The end of an attempt."""

    kind: Literal["settlement"] = "settlement"
    request_id: Annotated[str, Field(min_length=1, max_length=64)]
    attempt: Annotated[int, Field(ge=1)]
    first_byte_us: Us | None = None
    """When the first byte of the body was passed on, absent where none was."""
    ended_us: Us
    response_bytes: Count
    tokens: Tokens | None = None
    """Absent where the answer did not say."""
    outcome: Outcome
    status: Annotated[int, Field(ge=0, le=999)]
    """HTTP status of the replica's answer, 0 where none came."""

    @property
    def key(self) -> RecordKey:
        """Return the identity of the record."""
        return RecordKey(self.request_id, self.attempt, self.kind)


class Unrecorded(Line):
    """Attempts that were served in [from_us, to_us] while nothing could be recorded: a bill that lacks them says so."""

    kind: Literal["unrecorded"] = "unrecorded"
    id: Annotated[str, Field(min_length=1, max_length=64)]
    """The identity of the record."""
    namespace: str
    endpoint: str
    consumer: str
    requests: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    from_us: Us
    to_us: Us


AnyRecord = Intent | Settlement | Unrecorded
_RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def decode(line: bytes | str) -> AnyRecord:
    """Read one line of a usage log.

    Raises InvalidRecord, which names the fields that do not fit.
    """
    try:
        return _RECORD.validate_json(line)
    except ValidationError as error:
        raise InvalidRecord(f"no usage record: {'; '.join(describe(error))}") from error
