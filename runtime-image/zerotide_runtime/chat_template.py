"""Render a conversation into a prompt with the model's own Jinja template, in a sandbox."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError as JinjaError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zerotide_runtime.errors import TemplateError
from zerotide_runtime.tool_formats import format_of


class _Refused(Exception):
    """The template itself called raise_exception."""


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    # Unlike Jinja's own filter this one must not escape <, > and & as HTML.
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """A compiled template; the special tokens are variables in it.

    `tool_format` is how it has functions called, None where it knows of none.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except JinjaError as error:
            raise TemplateError(f"the model's chat template has an error: {error}", "messages") from None
        self._special_tokens = special_tokens
        self.tool_format = format_of(source)

    def render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
        """Return the prompt for the assistant's next turn; raise TemplateError where the template refuses."""
        try:
            return self._template.render(
                messages=messages, tools=tools, add_generation_prompt=True, **self._special_tokens
            )
        except _Refused as refusal:
            raise TemplateError(f"the model's chat template refuses these messages: {refusal}", "messages") from None
        except (JinjaError, TypeError, ValueError, KeyError, RecursionError) as error:
            raise TemplateError(f"the model's chat template failed: {error}", "messages") from None
