"""What a JSON body asks for, and the few changes that are made to it, with every other byte left as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from json.scanner import make_scanner
from typing import Any, NamedTuple, NoReturn, cast

from zerotide.api.errors import ErrorCode, Rejection

_SPACE = re.compile(r"[ \t\n\r]*")
_USAGE_PATHS = frozenset(("/v1/chat/completions", "/v1/completions"))
_READ = ("model", "stream", "stream_options")
_GENERATING = frozenset(("/", "/generate", "/generate_stream"))
"""Where parameters may name an adapter."""
_MODEL, _STREAM, _OPTIONS = (b'"%b"' % name.encode() for name in _READ)
_ASK = b'"stream_options":{"include_usage":true},'


class Member(NamedTuple):
    """A value of the body's object, and where in the text it stands."""

    value: Any
    start: int
    end: int


class Payload(NamedTuple):
    """What of a body matters here; `body` is what goes to the replica."""

    body: bytes
    model: str = ""
    stream: bool = False
    adds_usage: bool = False
    """Whether the replica is asked for a usage chunk that the client did not ask for."""
    adapter: str = ""
    """The adapter that TGI's parameters name, empty where they name none."""


class Glance(NamedTuple):
    """What a body says that needs no care: no member that matters can occur in it twice."""

    content: Mapping[str, Any]
    model: str
    """The model that is asked for, empty where none is."""

    def payload(self, body: bytes, path: str, model_name: str) -> Payload:
        """Return the payload as `prepare` does, whose care is needed only where the text is edited within."""
        content, model = self.content, self.content.get("model")
        stream = path == "/generate_stream" or content.get("stream") is True
        options = content.get("stream_options", content)
        asks = stream and path in _USAGE_PATHS
        if model is None or model == model_name:
            if not asks or (isinstance(options, dict) and options.get("include_usage") is True):
                adapter = _adapter(content.get("parameters")) if path in _GENERATING else ""
                return Payload(body, self.model, stream, False, adapter)
            if options is content:
                at = body.index(b"{") + 1
                return Payload(b"%b%b%b" % (body[:at], _ASK, body[at:]), self.model, True, True)
        return prepare(*read_json(body, path), path, model_name)


class Careful(NamedTuple):
    """What a body says of which the places have to be known."""

    text: str
    found: Mapping[str, Member]

    @property
    def model(self) -> str:
        """Return the model that is asked for, empty where none is; raises as `model_of`."""
        return model_of(self.found)

    def payload(self, body: bytes, path: str, model_name: str) -> Payload:
        """Return the payload for the endpoint whose model is called `model_name` by its engine."""
        return prepare(self.text, self.found, path, model_name)


def asked(body: bytes, path: str) -> Glance | Careful:
    """Return what a JSON body asks for.

    Raises invalid_request where it is none.
    """
    return glance(body) or Careful(*read_json(body, path))


def glance(body: bytes) -> Glance | None:
    """Read a JSON object in which no member that matters can occur twice, None for any other body.

    A name may be given twice, or in escapes: then the places have to be known, and `members` reads it.
    """
    count = body.count
    if count(_MODEL) > 1 or count(_STREAM) > 1 or count(_OPTIONS) > 1 or b"\\u006" in body or b"\\u007" in body:
        return None
    try:
        text = body.decode("utf-8")
        content, end = _scan(text, 0)
        if end != len(text) and text[end:].strip(" \t\n\r"):
            return None
    except (ValueError, RecursionError, StopIteration):
        return None
    if not isinstance(content, dict):
        return None
    model = content.get("model")
    return Glance(content, model or "") if model is None or isinstance(model, str) else None


def members(text: str) -> dict[str, Member]:
    """Return the members of a JSON object with their places.

    Raises ValueError for text that is no JSON object by RFC 8259.
    """
    index = _skip(text, 0)
    if not text.startswith("{", index):
        raise ValueError("the body is not a JSON object")
    found: dict[str, Member] = {}
    index = _skip(text, index + 1)
    if text.startswith("}", index):
        return _ended(text, index + 1, found)
    while True:
        if not text.startswith('"', index):
            raise ValueError(f"a member's name is expected at character {index}")
        name, index = _DECODER.raw_decode(text, index)
        index = _skip(text, index)
        if not text.startswith(":", index):
            raise ValueError(f"`:` is expected at character {index}")
        start = _skip(text, index + 1)
        value, end = _DECODER.raw_decode(text, start)
        if name in found and name in _READ:
            raise ValueError(f"the member `{name}` is given twice")
        found[name] = Member(value, start, end)
        index = _skip(text, end)
        if text.startswith("}", index):
            return _ended(text, index + 1, found)
        if not text.startswith(",", index):
            raise ValueError(f"`,` or `}}` is expected at character {index}")
        index = _skip(text, index + 1)


def read_json(body: bytes, path: str) -> tuple[str, Mapping[str, Member]]:
    """Return the text of a JSON body and its members.

    Raises invalid_request where it is none; nothing is woken for it.
    """
    try:
        text = body.decode("utf-8")
        return text, members(text)
    except RecursionError:
        raise Rejection(ErrorCode.INVALID_REQUEST, "the body is nested too deeply") from None
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Rejection(ErrorCode.INVALID_REQUEST, f"the body is not valid JSON for {path}: {reason}") from None


def model_of(found: Mapping[str, Member]) -> str:
    """Return the model that a body asks for, empty where it says none.

    Raises invalid_request where it is no string.
    """
    member = found.get("model")
    if member is None or member.value is None:
        return ""
    if not isinstance(member.value, str):
        raise Rejection(ErrorCode.INVALID_REQUEST, "`model` must be a string", param="model")
    return member.value


def prepare(text: str, found: Mapping[str, Member], path: str, model_name: str) -> Payload:
    """Return the payload for the endpoint whose model is called `model_name` by its engine.

    An alias is replaced by that name, and streams of completions are asked to end with their usage.
    """
    edits: list[tuple[int, int, str]] = []
    model = found.get("model")
    if model is not None and isinstance(model.value, str) and model.value != model_name:
        edits.append((model.start, model.end, json.dumps(model_name)))
    stream = path == "/generate_stream" or ((member := found.get("stream")) is not None and member.value is True)
    adds = stream and path in _USAGE_PATHS and _ask_for_usage(text, found, edits)
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    parameters = found.get("parameters") if path in _GENERATING else None
    adapter = _adapter(parameters.value) if parameters is not None else ""
    return Payload(text.encode(), model_of(found), stream, adds, adapter)


def _adapter(parameters: Any) -> str:
    """Return the adapter that TGI's parameters name."""
    name = parameters.get("adapter_id") if isinstance(parameters, dict) else None
    return name if isinstance(name, str) else ""


def _ask_for_usage(text: str, found: Mapping[str, Member], edits: list[tuple[int, int, str]]) -> bool:
    options = found.get("stream_options")
    if options is None:
        start = _skip(text, 0) + 1
        edits.append((start, start, '"stream_options":{"include_usage":true},'))
        return True
    if options.value is None:
        edits.append((options.start, options.end, '{"include_usage":true}'))
        return True
    if not isinstance(options.value, dict) or options.value.get("include_usage") is True:
        return False
    edits.append((options.start, options.end, json.dumps({**options.value, "include_usage": True})))
    return True


def _skip(text: str, index: int) -> int:
    match = _SPACE.match(text, index)
    return match.end() if match else index


def _ended(text: str, index: int, found: dict[str, Member]) -> dict[str, Member]:
    if _skip(text, index) != len(text):
        raise ValueError(f"nothing may follow the object at character {index}")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_scan: Callable[[str, int], tuple[Any, int]] = cast(Any, make_scanner)(_DECODER)
"""What the decoder calls itself; without its two calls and two patterns around it, for every body is read by this."""
