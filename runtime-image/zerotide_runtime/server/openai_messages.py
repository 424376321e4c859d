"""Read a conversation, and render it into a prompt."""

from __future__ import annotations

from typing import Any

from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.fields import Object
from zerotide_runtime.server.service import Loaded

ROLES = ("system", "developer", "user", "assistant", "tool")


def render(model: Loaded, messages: list[Object]) -> str:
    """Return the prompt for the assistant's next turn; raise InvalidRequest where the model cannot chat."""
    if model.assets.template is None:
        raise InvalidRequest("this model has no chat template; use /v1/completions", "messages")
    return model.assets.template.render(messages)


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
    if message.get("tool_calls"):
        raise InvalidRequest(f"`{place}.tool_calls` is not supported by this server", f"{place}.tool_calls")
    # Templates predate the name "developer".
    return {"role": "system" if role == "developer" else role, "content": _content(message.get("content"), place)}


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
