"""One of an answer's choices in OpenAI's form: as a whole, or as the pieces of a stream."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Protocol

from zerotide_runtime.codec import Codec
from zerotide_runtime.engine.request import Choice, Finish, Sequence, TokenEvent
from zerotide_runtime.server.fields import Object
from zerotide_runtime.server.openai_odds import ShownTokens, chat_odds, plain_odds
from zerotide_runtime.server.openai_params import Options
from zerotide_runtime.server.tool_calls import Argued, Called, CallParser, Part, Said


class ChoiceForm(Protocol):
    """What the two routes' choices have in common; the objects lack their index."""

    def pieces(self, event: TokenEvent) -> Iterator[Object]:
        """Return the pieces that one token makes."""
        ...

    def whole(self, events: list[TokenEvent]) -> Object:
        """Return the choice in one piece."""
        ...


def finish_reason(finish: Finish) -> str:
    """Return OpenAI's word for why an answer ended."""
    return "stop" if finish.end_token or finish.stop_string is not None else "length"


class ChatChoice:
    """A message; `parser` finds the calls in it, and is None where no functions are on offer."""

    def __init__(self, codec: Codec, options: Options, parser: CallParser | None) -> None:
        self._codec = codec
        self._told = options.report is not None
        self._parser = parser
        self._tokens = ShownTokens()
        self._opened = False
        self._calls = 0

    def pieces(self, event: TokenEvent) -> Iterator[Object]:
        """Return deltas; log-probabilities come with the first of a token's."""
        if not self._opened:
            self._opened = True
            yield _piece({"role": "assistant", "content": ""}, None, None)
        odds = chat_odds(self._codec, self._tokens.add(event)) if self._told else None
        deltas = [self._delta(part) for part in self._parts(event)]
        if odds is not None and not deltas:
            deltas = [{"content": ""}]
        for place, delta in enumerate(deltas):
            yield _piece(delta, odds if place == 0 else None, None)
        if event.finish is not None:
            yield _piece({}, None, self._reason(event.finish))

    def whole(self, events: list[TokenEvent]) -> Object:
        """Return the message."""
        parts = [part for event in events for part in self._parts(event)]
        text = "".join(part.text for part in parts if isinstance(part, Said))
        calls: list[Object] = []
        for part in parts:
            if isinstance(part, Called):
                calls.append(_call(part.name))
            elif isinstance(part, Argued):
                calls[-1]["function"]["arguments"] += part.text
        message: Object = {"role": "assistant", "content": None if calls and not text.strip() else text}
        if calls:
            message["tool_calls"] = calls
        shown = [token for event in events for token in self._tokens.add(event)] if self._told else []
        odds = (chat_odds(self._codec, shown) or {"content": [], "refusal": None}) if self._told else None
        finish = events[-1].finish
        assert finish is not None
        return {"message": message, "logprobs": odds, "finish_reason": self._reason(finish)}

    def _parts(self, event: TokenEvent) -> list[Part]:
        if self._parser is None:
            return [Said(event.visible)] if event.visible else []
        ended = self._parser.finish if event.finish is not None else list
        return [*self._parser.push(event.visible), *ended()]

    def _delta(self, part: Part) -> Object:
        if isinstance(part, Said):
            return {"content": part.text}
        if isinstance(part, Called):
            self._calls += 1
            return {"tool_calls": [{"index": self._calls - 1, **_call(part.name)}]}
        return {"tool_calls": [{"index": self._calls - 1, "function": {"arguments": part.text}}]}

    def _reason(self, finish: Finish) -> str:
        reason = finish_reason(finish)
        return "tool_calls" if reason == "stop" and self._parser is not None and self._parser.called else reason


def _call(name: str) -> Object:
    return {
        "id": "call_" + secrets.token_hex(12),
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }


def _piece(delta: Object, odds: Object | None, reason: str | None) -> Object:
    return {"delta": delta, "logprobs": odds, "finish_reason": reason}


class PlainChoice:
    """A text, with the prompt before it where it is to be echoed."""

    def __init__(self, codec: Codec, options: Options, sequence: Sequence) -> None:
        self._codec = codec
        self._report = options.report
        self._echo = options.echo
        self._mute = options.max_tokens == 0  # what was generated only to have the prompt's odds
        self._sequence = sequence
        self._tokens = ShownTokens()
        self._opened = False
        self._offset = 0

    def pieces(self, event: TokenEvent) -> Iterator[Object]:
        """Return texts: the prompt first, then what each token shows."""
        if not self._opened and self._echo:
            yield self._prompt()
        self._opened = True
        shown = [] if self._mute else self._tokens.add(event)
        text = "" if self._mute else event.visible
        if text or (shown and self._report is not None):
            yield {"text": text, "logprobs": self._odds(shown), "finish_reason": None}
        if event.finish is not None:
            yield {"text": "", "logprobs": None, "finish_reason": finish_reason(event.finish)}

    def whole(self, events: list[TokenEvent]) -> Object:
        """Return the whole text."""
        pieces = [piece for event in events for piece in self.pieces(event)]
        merged: Object = {"text": "".join(piece["text"] for piece in pieces), "logprobs": None}
        for odds in (piece["logprobs"] for piece in pieces if piece["logprobs"] is not None):
            if merged["logprobs"] is None:
                merged["logprobs"] = odds
            else:
                for name, values in odds.items():
                    merged["logprobs"][name] = None if values is None else merged["logprobs"][name] + values
        return {**merged, "finish_reason": pieces[-1]["finish_reason"]}

    def _prompt(self) -> Object:
        prompt, odds = self._sequence.prompt, None
        text = self._codec.decode(prompt)
        if self._report is not None:
            choices = [Choice(prompt[0], 0.0), *self._sequence.prompt_odds]
            odds = plain_odds(self._codec, choices, 0, first=True, tops=self._report.top)
        self._offset = len(text)
        return {"text": text, "logprobs": odds, "finish_reason": None}

    def _odds(self, events: list[TokenEvent]) -> Object | None:
        if self._report is None or not events:
            return None
        choices = [Choice(event.token, event.logprob, event.top) for event in events]
        odds = plain_odds(self._codec, choices, self._offset, first=False, tops=self._report.top)
        self._offset += sum(len(event.text) for event in events)
        return odds
