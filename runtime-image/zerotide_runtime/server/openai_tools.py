"""Read the functions that a model may call, and what a forced call must look like."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object, boolean
from zerotide_runtime.server.grammar import JSON_STYLE, Grammar
from zerotide_runtime.tool_formats import Format

MAX_TOOLS = 128
MAX_FORCED_CALLS = 8
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True)
class Tools:
    """The functions on offer; `forced` names those of which one must be called, and is empty where none must."""

    offered: tuple[Object, ...]
    forced: tuple[str, ...]
    parallel: bool

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all functions."""
        return frozenset(tool["function"]["name"] for tool in self.offered)

    def grammar(self, form: Format) -> Grammar | None:
        """Return what an answer must match that has to call a function; None where it need not."""
        if not self.forced:
            return None
        rules = {
            f"call_{number}": _call_schema(tool["function"], form.arguments)
            for number, tool in enumerate(self.offered)
            if tool["function"]["name"] in self.forced
        }
        more = f" ({_quoted(form.separator)} call){{0,{MAX_FORCED_CALLS - 1}}}" if self.parallel else ""
        lines = [
            f"start: {_quoted(form.begin)} call{more} {_quoted(form.end)}",
            f"call: {_quoted(form.before)} ({' | '.join(rules)}) {_quoted(form.after)}",
            *(f"{rule}: %json {json.dumps(schema)}" for rule, schema in rules.items()),
        ]
        return Grammar("lark", "\n".join(lines))


def read_tools(source: Object) -> Tools | None:
    """Return the functions on offer, or None where there are none; raise InvalidRequest, which names the field."""
    tools, choice = source.get("tools"), source.get("tool_choice")
    if not tools:
        if tools not in (None, []):
            raise InvalidRequest("`tools` must be a list", "tools")
        if choice not in (None, "none", "auto"):
            raise InvalidRequest("`tool_choice` is only allowed when `tools` are specified", "tool_choice")
        return None
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"`tools` must be a list of at most {MAX_TOOLS}", "tools")
    offered = tuple(_tool(tool, f"tools[{place}]") for place, tool in enumerate(tools))
    if choice == "none":
        return None
    forced = _forced(choice, [tool["function"]["name"] for tool in offered])
    # A function that is named is called once.
    parallel = boolean(source, "parallel_tool_calls", True) and not isinstance(choice, dict)
    return Tools(offered, forced, parallel)


def _forced(choice: Any, names: list[str]) -> tuple[str, ...]:
    if choice is None or choice == "auto":
        return ()
    if choice == "required":
        return tuple(names)
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if name is None:
        raise InvalidRequest("`tool_choice` must be none, auto, required or one function", "tool_choice")
    if name not in names:
        raise InvalidRequest(f"`tool_choice` names {name!r}, which is not among `tools`", "tool_choice")
    return (name,)


def _tool(tool: Any, place: str) -> Object:
    if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        raise InvalidRequest(f"`{place}` must be of type function", place)
    function = tool["function"]
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        where = f"{place}.function.name"
        raise InvalidRequest(f"`{where}` must be 1 to 64 letters, digits, underscores or dashes", where)
    if parameters is not None and not isinstance(parameters, dict):
        where = f"{place}.function.parameters"
        raise InvalidRequest(f"`{where}` must be a JSON schema", where)
    return tool


def _call_schema(function: Object, arguments: str) -> Object:
    """Return the JSON schema of one function's call; references stay valid, since definitions move to its root."""
    schema = {"type": "object", "properties": {}, "additionalProperties": False, **(function.get("parameters") or {})}
    definitions = {key: schema.pop(key) for key in ("$defs", "definitions") if key in schema}
    return {
        "x-guidance": JSON_STYLE,
        "type": "object",
        "properties": {"name": {"const": function["name"]}, arguments: schema},
        "required": ["name", arguments],
        "additionalProperties": False,
        **definitions,
    }


def _quoted(text: str) -> str:
    return json.dumps(text)
