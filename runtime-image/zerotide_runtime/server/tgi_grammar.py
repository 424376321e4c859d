"""Read TGI's `grammar` parameter, with TGI's own messages."""

from __future__ import annotations

import json
from typing import Any

from zerotide_runtime.errors import GrammarInvalid
from zerotide_runtime.server.fields import Object, nested
from zerotide_runtime.server.grammar import Grammar

KINDS = ("json", "json_object", "regex", "json_schema")


def read_grammar(fields: Object) -> Grammar | None:
    """Return what the answer must match, or None; raise GrammarInvalid."""
    asked = nested(fields, "grammar")
    if asked is None:
        return None
    kind, value = asked.get("type"), asked.get("value")
    if kind not in KINDS:
        raise GrammarInvalid(f"`type` must be one of {', '.join(KINDS)}")
    if kind == "regex":
        if not isinstance(value, str):
            raise GrammarInvalid("`value` must be a string")
        return Grammar("regex", value)
    if kind == "json_schema":  # a schema with a name around it
        value = value.get("schema") if isinstance(value, dict) else value
    return Grammar.json_schema(_schema(value))


def _schema(value: Any) -> Object:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise GrammarInvalid(str(error)) from None
    if not isinstance(value, dict):
        raise GrammarInvalid("Grammar must be a string or JSON object")
    if "properties" not in value:
        raise GrammarInvalid("Grammar must have a 'properties' field")
    # What has properties is an object; a schema that does not say so would also allow numbers and strings.
    return {"type": "object", **value}
