"""Tell whether an answer has the shape that a JSON schema of the interface's description has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def misfits(schema: dict[str, Any], value: Any, known: dict[str, Any], at: str = "$") -> Iterator[str]:
    """Yield what of a value is not as its schema says; `known` holds what references name."""
    if reference := schema.get("$ref"):
        yield from misfits(known[reference.rpartition("/")[2]], value, known, at)
        return
    if choices := schema.get("anyOf"):
        if all(list(misfits(choice, value, known, at)) for choice in choices):
            yield f"{at}: none of {choices}"
        return
    kind = schema.get("type")
    if kind is not None and not isinstance(value, KINDS[kind]):
        yield f"{at}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", False)
        yield from (f"{at}.{name} is missing" for name in schema.get("required", []) if name not in value)
        for name, part in value.items():
            if name not in properties and more is False:
                yield f"{at}.{name} is not described"
            elif isinstance(inner := properties.get(name, more), dict):
                yield from misfits(inner, part, known, f"{at}.{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from misfits(schema.get("items", {}), part, known, f"{at}[{number}]")
