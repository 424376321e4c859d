"""Read a conversation, and render it into a prompt."""

from __future__ import annotations

import json
from typing import Any

from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object
from zerotide_runtime.server.openai_tools import Tools
from zerotide_runtime.server.service import Loaded
from zerotide_runtime.server.taught_tools import teach

ROLES = ("system", "developer", "user", "assistant", "tool")


def render(model: Loaded, messages: list[Object], tools: Tools | None = None) -> str:
    """Return the prompt for the assistant's next turn; raise InvalidRequest where the model cannot chat."""
    template = model.assets.template
    if template is None:
        raise InvalidRequest("this model has no chat template; use /v1/completions", "messages")
    offered = [] if tools is None else list(tools.offered)
    if template.tool_format is None:
        return template.render(teach(messages, offered))
    return template.render(messages, offered or None)


def read_messages(source: Object) -> list[Object]:
    """Return the conversation in the form that chat templates expect: contents as plain strings."""
    messages = source.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("`messages` must be a list with at least one message", "messages")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def _message(message: Any, place: str) -> Object:
    if not isinstance(message, dict):
        raise InvalidRequest(f"`{place}` must be an object", place)
    role = message.get("role")
    if role not in ROLES:
        raise InvalidRequest(f"`{place}.role` must be one of {', '.join(ROLES)}", f"{place}.role")
    calls = message.get("tool_calls")
    if calls and role == "assistant":
        content = message.get("content")
        read = _calls(calls, f"{place}.tool_calls")
        return {"role": role, "content": "" if content is None else _content(content, place), "tool_calls": read}
    # Templates predate the name "developer".
    kept: Object = {
        "role": "system" if role == "developer" else role,
        "content": _content(message.get("content"), place),
    }
    for name in ("name", "tool_call_id"):
        if isinstance(message.get(name), str):
            kept[name] = message[name]
    return kept


def _calls(calls: Any, place: str) -> list[Object]:
    """Return earlier calls with their arguments decoded, as templates want them."""
    if not isinstance(calls, list):
        raise InvalidRequest(f"`{place}` must be a list", place)
    read = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest(f"`{place}` may only have calls of functions by name", place)
        arguments = function.get("arguments") or "{}"
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                raise InvalidRequest(f"`{place}` has arguments that are not JSON", place) from None
        read.append({**call, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
    return read


def _content(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"`{place}.content` must be a string or a list of parts", f"{place}.content")
    parts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidRequest(f"`{place}.content` may only have parts of type text", f"{place}.content")
        parts.append(part["text"])
    return "".join(parts)
