"""How models write that they call functions. Three ways cover most of them.

hermes    <tool_call>{"name": "f", "arguments": {…}}</tool_call>    Qwen, Hermes, SmolLM; and models without a way
mistral   [TOOL_CALLS][{"name": "f", "arguments": {…}}]
llama     {"name": "f", "parameters": {…}}                          Llama 3
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One way to write calls: `begin` call (`separator` call)* `end`, each call with `before` and `after` around it.

    A text may begin with `marker`, which tokenizers usually hide. `opening` tells a call from text, `anywhere` or
    else at the start only; `closing` ends a call.
    """

    opening: str
    closing: str
    anywhere: bool
    arguments: str = "arguments"
    marker: str = ""
    begin: str = ""
    before: str = ""
    after: str = ""
    separator: str = ""
    end: str = ""


HERMES = Format(
    "<tool_call>", "</tool_call>", anywhere=True, before="<tool_call>\n", after="\n</tool_call>", separator="\n"
)
MISTRAL = Format("[", "]", anywhere=False, marker="[TOOL_CALLS]", begin="[", separator=", ", end="]")
LLAMA = Format("", "", anywhere=False, arguments="parameters", marker="<|python_tag|>", separator="; ")


def format_of(template: str) -> Format | None:
    """Return the way that a chat template teaches; None where it knows of no functions."""
    if "tools" not in template:
        return None
    if "[TOOL_CALLS]" in template:
        return MISTRAL
    if "<tool_call>" not in template and '"parameters":' in template:
        return LLAMA
    return HERMES
