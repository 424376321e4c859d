"""Read `response_format`: free text, any JSON object, or JSON by a schema."""

from __future__ import annotations

import re

from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object, nested, text
from zerotide_runtime.server.grammar import Grammar

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
FIELD = "response_format"


def read_format(source: Object) -> Grammar | None:
    """Return what the answer must match, or None for free text; raise InvalidRequest."""
    asked = nested(source, FIELD)
    if asked is None:
        return None
    kind = asked.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar.json_schema({"type": "object"})
    if kind != "json_schema":
        raise InvalidRequest(f"`{FIELD}.type` must be text, json_object or json_schema", f"{FIELD}.type")
    described = nested(asked, "json_schema")
    if described is None:
        raise InvalidRequest(f"`{FIELD}.json_schema` is missing", f"{FIELD}.json_schema")
    name = text(described, "name")
    if name is None or not NAME.fullmatch(name):
        place = f"{FIELD}.json_schema.name"
        raise InvalidRequest(f"`{place}` must be 1 to 64 letters, digits, underscores or dashes", place)
    return Grammar.json_schema(nested(described, "schema") or {})
