"""Tell a model whose chat template knows no functions how to call them, within the roles that it does know."""

from __future__ import annotations

import json

from zerotide_runtime.server.fields import Object
from zerotide_runtime.tool_formats import HERMES

LESSON = """You can call functions. To call one, write its name and its arguments as JSON, like this:
<tool_call>
{"name": "the function", "arguments": {"the argument": "its value"}}
</tool_call>
What it returns comes in <tool_response>. These are the functions, each with the JSON schema of its arguments:
"""


def teach(messages: list[Object], offered: list[Object]) -> list[Object]:
    """Return a conversation with functions, calls and results written into plain contents."""
    told = [_plain(message) for message in messages]
    if not offered:
        return told
    lesson = LESSON + "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in offered)
    if told[0]["role"] != "system":
        return [{"role": "system", "content": lesson}, *told]
    return [{"role": "system", "content": f"{told[0]['content']}\n\n{lesson}"}, *told[1:]]


def _plain(message: Object) -> Object:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    if "tool_calls" not in message:
        return message
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message["tool_calls"]]
    written = [HERMES.before + call + HERMES.after for call in calls]
    return {"role": "assistant", "content": "\n".join(filter(None, [message["content"], *written]))}
