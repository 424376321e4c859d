"""Read typed fields out of a request's JSON; null counts as absent. Raise InvalidRequest, which names the field."""

from __future__ import annotations

import json
import math
from typing import Any

from zerotide_runtime.errors import InvalidRequest

Object = dict[str, Any]


def parse_object(body: bytes) -> Object:
    """Return the JSON object in a request's body."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request's body is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidRequest("the request's body must be a JSON object")
    return content


def boolean(source: Object, name: str, default: bool = False) -> bool:
    """Return a field that must be true or false."""
    value = source.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{name}` must be true or false", name)
    return value


def integer(source: Object, name: str) -> int | None:
    """Return a field that must be a whole number."""
    value = source.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"`{name}` must be an integer", name)
    return value


def number(source: Object, name: str) -> float | None:
    """Return a field that must be a number."""
    value = source.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"`{name}` must be a number", name)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise InvalidRequest(f"`{name}` must be a finite number", name)
    return result


def text(source: Object, name: str) -> str | None:
    """Return a field that must be a string."""
    value = source.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string", name)
    return value


def strings(source: Object, name: str) -> tuple[str, ...]:
    """Return a field that must be a list of strings."""
    value = source.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"`{name}` must be a list of strings", name)
    return tuple(value)


def nested(source: Object, name: str) -> Object | None:
    """Return a field that must be an object."""
    value = source.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"`{name}` must be an object", name)
    return value
