"""Hold answers to a grammar: JSON schemas and regular expressions, by llguidance.

The library and its view of the vocabulary are loaded by the first request that needs them: 0.3 s that no start pays.
"""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from zerotide_runtime.errors import GrammarInvalid, GrammarUnsupported

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

    from zerotide_runtime.assets import Assets

# As Python and most of what models have read writes JSON. Free space would let a small model write spaces for ever.
JSON_STYLE: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True)
class Grammar:
    """What an answer must match: a JSON schema, a regular expression, or rules in llguidance's dialect of Lark."""

    kind: Literal["json", "regex", "lark"]
    source: str

    @classmethod
    def json_schema(cls, schema: dict[str, Any]) -> Grammar:
        """Return the grammar of a JSON schema."""
        return cls("json", json.dumps(schema))


class Bound:
    """One answer on its way through a grammar; the engine's view of it."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.error = ""

    def allowed(self) -> bytes | None:
        """Return the tokens that may come next, one bit each; all where the grammar broke down."""
        mask = self._matcher.compute_bitmask()
        return None if self._broken() else mask

    def accept(self, token: int) -> bool:
        """Take note of a token; return whether nothing may follow."""
        if not self.error:
            self._matcher.consume_token(token)
        return not self._broken() and self._matcher.is_stopped()

    def _broken(self) -> bool:
        if not self.error and self._matcher.is_error():
            self.error = f"the grammar broke down: {_first_line(self._matcher.get_error())}"
        return bool(self.error)


class Grammars:
    """Makes constraints for one model."""

    def __init__(self, assets: Assets, *, enabled: bool = True) -> None:
        self._assets = assets
        self._enabled = enabled
        self._loading = threading.Lock()
        self._tokenizer: LLTokenizer | None = None

    async def bind(self, grammar: Grammar, count: int) -> list[Bound]:
        """Return constraints for `count` answers; raise GrammarInvalid or GrammarUnsupported."""
        return await asyncio.to_thread(self._bind, grammar, count)

    def _bind(self, grammar: Grammar, count: int) -> list[Bound]:
        try:
            import llguidance
        except ImportError:
            raise GrammarUnsupported from None
        if not self._enabled or not self._assets.end_tokens:
            raise GrammarUnsupported  # a model without an end token could not end an answer that is complete
        limits = llguidance.LLParserLimits(verbose_errors=False)
        source = _translate(grammar)
        tokenizer = self._load()
        error = llguidance.LLMatcher.validate_grammar(source, tokenizer, limits=limits)
        matcher = llguidance.LLMatcher(tokenizer, source, log_level=0, limits=limits)
        if error or matcher.is_error():
            raise GrammarInvalid(_first_line(error or matcher.get_error()))
        return [Bound(matcher.deep_copy()) for _ in range(count)]

    def _load(self) -> LLTokenizer:
        import llguidance

        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = llguidance.LLTokenizer(
                    self._assets.codec.to_json(),
                    n_vocab=self._assets.config.vocabulary,
                    eos_token=sorted(self._assets.end_tokens),
                )
            return self._tokenizer


def _translate(grammar: Grammar) -> str:
    from llguidance import LLMatcher

    if grammar.kind == "regex":
        return LLMatcher.grammar_from_regex(grammar.source)
    if grammar.kind == "lark":
        return LLMatcher.grammar_from_lark(grammar.source)
    try:
        return LLMatcher.grammar_from_json_schema(grammar.source, defaults=JSON_STYLE)
    except ValueError as error:
        raise GrammarInvalid(_first_line(str(error))) from None


def _first_line(message: str) -> str:
    """Return what is wrong without the excerpts that llguidance draws below it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("error:")), "")
    return " ".join([*lines[:1], told]).strip()
