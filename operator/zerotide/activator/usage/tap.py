"""Read what an answer says of its tokens while it passes, and take out what only we asked for.

A tap never changes a byte of an answer but one event: the usage chunk of a stream whose client did not ask for it.
Streams are passed on event by event, so that one that breaks off never ends within an event. The events with text are
counted, since one that breaks off never comes to tell its usage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from json.scanner import make_scanner
from typing import Any, Protocol, cast

from zerotide.api.protocol import Protocol as Dialect
from zerotide.api.usage import MOST_TOKENS, Tokens

TAIL = 16 * 1024
WHOLE = 1024 * 1024
LONGEST_EVENT = 1024 * 1024
LONGEST_FIRST = 4096
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_DETAILS = re.compile(rb'"details"\s*:\s*\{')
_scan: Callable[[str, int], tuple[Any, int]] = cast(Any, make_scanner)(json.JSONDecoder())
"""What the decoder calls itself."""
_DATA, _BLOCK, _TEXT_DELTA = b"data:", b"event: content_block_delta", b"event: response.output_text.delta"
_LINES = {_BLOCK: b"event: message_start", _TEXT_DELTA: b"event: response.created"}
"""What is counted instead of data, by what such a stream begins with."""
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class Tap(Protocol):
    """Something that an answer's body passes through."""

    def feed(self, data: bytes) -> bytes:
        """Take what arrived, return what is passed on."""

    def finish(self) -> bytes:
        """Return what is left at the end of a complete answer."""

    def tokens(self) -> Tokens | None:
        """Return what the answer said of its tokens so far."""


class Through:
    """Let an answer pass that says nothing of tokens."""

    def feed(self, data: bytes) -> bytes:
        """Pass everything on."""
        return data

    def finish(self) -> bytes:
        """Nothing is held back."""
        return b""

    def tokens(self) -> Tokens | None:
        """Nothing is known."""
        return None


class Whole:
    """Read a JSON answer: of OpenAI's its tail, where `usage` stands, of TGI's all, within bounds."""

    def __init__(self, dialect: Dialect, counted: Tokens | None = None) -> None:
        self._dialect = dialect
        self._counted = counted
        self._kept = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Keep what is needed, pass everything on."""
        if self._counted is None:
            self._kept += data
            if self._dialect is Dialect.OPENAI and len(self._kept) > 2 * TAIL:
                del self._kept[:-TAIL]
            elif len(self._kept) > WHOLE:
                self._kept.clear()
        return data

    def finish(self) -> bytes:
        """Nothing is held back."""
        return b""

    def tokens(self) -> Tokens | None:
        """Return what the answer said of its tokens."""
        if self._counted is not None:
            return self._counted
        return usage_in(bytes(self._kept)) if self._dialect is Dialect.OPENAI else details_in(bytes(self._kept))


class Events:
    """Read a stream of server-sent events, held back until each is complete."""

    def __init__(self, dialect: Dialect, *, strip: bool) -> None:
        self._mark = _USAGE if dialect is Dialect.OPENAI else _DETAILS
        self._strip = strip
        self._rest = b""
        self._tokens: Tokens | None = None
        self._first = b""
        self._line, self._next_line = _DATA, b"\n" + _DATA
        self._texts = 0
        self._complete = False

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete."""
        whole = self._rest + data if self._rest else data
        cut = last_end(whole)
        self._rest = whole[cut:]
        if len(self._rest) > LONGEST_EVENT:
            cut, self._rest = len(whole), b""
        whole = whole[:cut]
        if not self._first and _DATA in whole:
            self._begin(whole)
        self._texts += whole.count(self._next_line) + whole.startswith(self._line)
        if self._mark.search(whole) is None:
            return whole
        return b"".join(event for event in split_events(whole) if not self._is_ours(event))

    def finish(self) -> bytes:
        """Return an event whose end was left out."""
        rest, self._rest, self._complete = self._rest, b"", True
        return rest

    def tokens(self) -> Tokens | None:
        """Return what the stream said of its tokens so far; of one that was cut, what was seen where that is more."""
        told = self._tokens or Tokens(input=0, output=0)
        made = self._texts - (self._line == _DATA and not has_text(self._first))
        if self._complete or made <= told.output:
            return self._tokens
        return told.model_copy(update={"output": made, "estimated": True})

    def _begin(self, events: bytes) -> None:
        """See by the first events which line there is once for each event with text."""
        self._first = events[:LONGEST_FIRST]
        self._line = next((line for line, mark in _LINES.items() if mark in events), _DATA)
        self._next_line = b"\n" + self._line

    def _is_ours(self, event: bytes) -> bool:
        if self._mark.search(event) is None:
            return False
        content = data_of(event)
        if not isinstance(content, dict):
            return False
        found = tokens_in(content)
        if found is not None:
            before = self._tokens or Tokens(input=0, output=0)
            self._tokens = Tokens(
                input=max(found.input, before.input),
                cached=max(found.cached, before.cached),
                output=max(found.output, before.output),
            )
        return self._strip and found is not None and content.get("choices") == []


class Kind(Enum):
    """What of an answer can be read, by its head."""

    NOTHING = "nothing"
    WHOLE = "its tail, or all of it"
    EVENTS = "event by event"


def kind_of(content_type: str, encoded: bool) -> Kind:
    """Return what can be read of an answer; of a compressed one nothing."""
    kind = content_type.partition(";")[0].strip().lower()
    if encoded:
        return Kind.NOTHING
    if kind == "text/event-stream":
        return Kind.EVENTS
    return Kind.WHOLE if kind.endswith("json") else Kind.NOTHING


def tap_for(kind: Kind, dialect: Dialect, counted: Tokens | None, strip: bool) -> Tap:
    """Return the tap for an answer whose head tells so many tokens, None where it tells none."""
    if kind is Kind.EVENTS:
        return Events(dialect, strip=strip)
    return Whole(dialect, counted) if kind is Kind.WHOLE else Through()


class AllAtOnce:
    """Read a JSON answer that came in one piece, once it is asked what it said."""

    __slots__ = ("_body", "_dialect")

    def __init__(self, dialect: Dialect, body: bytes) -> None:
        self._dialect, self._body = dialect, body

    def feed(self, data: bytes) -> bytes:
        """Pass everything on."""
        return data

    def finish(self) -> bytes:
        """Nothing is held back."""
        return b""

    def tokens(self) -> Tokens | None:
        """Return what the answer said of its tokens."""
        body = self._body
        if self._dialect is Dialect.OPENAI:
            return usage_in(body if len(body) <= 2 * TAIL else body[-TAIL:])
        return details_in(body) if len(body) <= WHOLE else None


def split_events(data: bytes) -> list[bytes]:
    """Cut events apart, each with the empty line that ends it."""
    events, start = [], 0
    for match in _EVENT_END.finditer(data):
        events.append(data[start : match.end()])
        start = match.end()
    if start < len(data):
        events.append(data[start:])
    return events


def has_text(events: bytes) -> bool:
    """Tell whether the first of some events holds text: OpenAI's streams begin with one that only tells the role."""
    content = data_of(next((event for event in split_events(events) if _DATA in event), b""))
    choices = content.get("choices") if isinstance(content, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    delta = first.get("delta") if isinstance(first, dict) else None
    if not isinstance(delta, dict):
        return True
    return any(value for name, value in delta.items() if name != "role")


def data_of(event: bytes) -> Any:
    """Return the JSON of an event's data, None where it is none."""
    lines = [line[5:].lstrip(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    try:
        return json.loads(b"\n".join(lines))
    except (ValueError, RecursionError):
        return None


def tokens_in(content: Mapping[str, Any]) -> Tokens | None:
    """Return the tokens that an answer or an event tells, in any of the dialects."""
    for place in (content, content.get("response"), content.get("message")):
        if isinstance(place, dict) and isinstance(place.get("usage"), dict):
            return _of_usage(place["usage"])
    details = content.get("details")
    return _of_details(details) if isinstance(details, dict) else None


def usage_in(tail: bytes) -> Tokens | None:
    """Return the tokens that the last `usage` in the tail of a JSON answer tells."""
    place = _USAGE.match(tail, max(tail.rfind(b'"usage"'), 0))
    if place is None:
        # The last one may be another member's value: look for the last that is a member with an object.
        places = list(_USAGE.finditer(tail))
        if not places:
            return None
        place = places[-1]
    text = tail[place.end() - 1 :].decode("utf-8", "replace")
    try:
        usage, _ = _scan(text, 0)
    except (ValueError, RecursionError, StopIteration):
        return None
    return _of_usage(usage)


def details_in(whole: bytes) -> Tokens | None:
    """Return the tokens that a whole TGI answer tells."""
    try:
        content = json.loads(whole) if whole else None
    except (ValueError, RecursionError):
        return None
    first = content[0] if isinstance(content, list) and content else content
    return tokens_in(first) if isinstance(first, dict) else None


def _of_usage(usage: Mapping[str, Any]) -> Tokens | None:
    given = _count(usage, "prompt_tokens", "input_tokens")
    made = _count(usage, "completion_tokens", "output_tokens")
    if given is None and made is None:
        return None
    nested = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(nested, "cached_tokens") if isinstance(nested, dict) else None
    if cached is None:
        cached = _count(usage, "cache_read_input_tokens")
        if "prompt_tokens" not in usage:
            # Anthropic's dialect counts what was read from a cache, or written to one, apart from the rest of a prompt.
            apart = (cached or 0) + (_count(usage, "cache_creation_input_tokens") or 0)
            given = min((given or 0) + apart, MOST_TOKENS)
    return Tokens(input=given or 0, cached=min(cached or 0, given or 0), output=made or 0)


def _of_details(details: Mapping[str, Any]) -> Tokens | None:
    made, given = _count(details, "generated_tokens"), _count(details, "input_length")
    prefill = details.get("prefill")
    if given is None and isinstance(prefill, list):
        given = len(prefill)
    return None if made is None else Tokens(input=given or 0, output=made)


def tokens_of(headers: Mapping[bytes, bytes]) -> Tokens | None:
    """Return the tokens that the head of an answer tells, None where it tells none."""
    given, made = headers.get(b"x-prompt-tokens", b""), headers.get(b"x-generated-tokens", b"")
    if not (given.isdigit() and made.isdigit()) or max(len(given), len(made)) >= len(str(MOST_TOKENS)):
        return None
    return Tokens(input=int(given), output=int(made))


def _count(source: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = source.get(name)
        # Neither True nor False is a number here, and what no engine can have counted is none.
        if type(value) is int and 0 <= value <= MOST_TOKENS:
            return value
    return None


def last_end(data: bytes) -> int:
    """Return where the last whole event ends, 0 where there is none."""
    if data.endswith((b"\n\n", b"\r\n\r\n")):
        return len(data)
    ends = ((data.rfind(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r"))
    return max((at + size for at, size in ends if at >= 0), default=0)
