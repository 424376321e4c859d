"""Log-probabilities in OpenAI's two forms, for the tokens whose text shows."""

from __future__ import annotations

from collections.abc import Iterable

from zerotide_runtime.codec import Codec
from zerotide_runtime.engine.request import Choice, TokenEvent
from zerotide_runtime.server.fields import Object


class ShownTokens:
    """Give out tokens once their text shows: not the end token, nor those that make a stop string."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, TokenEvent]] = []
        self._written = self._shown = 0

    def add(self, event: TokenEvent) -> list[TokenEvent]:
        """Add a token; return those that show now."""
        finish = event.finish
        if not (event.special and finish is not None and finish.end_token):
            self._waiting.append((self._written, event))
        self._written += len(event.text)
        self._shown += len(event.visible)
        if finish is not None and finish.stop_string is None:
            ready = len(self._waiting)
        else:
            ready = sum(start < self._shown for start, _ in self._waiting)
        shown, self._waiting = self._waiting[:ready], self._waiting[ready:]
        return [token for _, token in shown]


def chat_odds(codec: Codec, events: Iterable[TokenEvent]) -> Object | None:
    """Return a chat's form; None where no token shows."""
    content = [
        {
            **_entry(codec, event.token, event.logprob),
            "top_logprobs": [_entry(codec, token, logprob) for token, logprob in event.top],
        }
        for event in events
    ]
    return {"content": content, "refusal": None} if content else None


def _entry(codec: Codec, token: int, logprob: float) -> Object:
    raw = codec.raw(token)
    return {"token": _text(raw), "logprob": logprob, "bytes": list(raw)}


def plain_odds(codec: Codec, choices: Iterable[Choice], offset: int, *, first: bool, tops: int) -> Object:
    """Return a plain completion's form; `offset` is where the first token's text begins.

    The `first` token of a prompt has no odds, because nothing comes before it.
    """
    tokens, logprobs, likeliest, offsets = [], [], [], []
    for place, choice in enumerate(choices):
        unknown = first and place == 0
        text = _text(codec.raw(choice.token))
        tokens.append(text)
        logprobs.append(None if unknown else choice.logprob)
        likeliest.append(None if unknown else {_text(codec.raw(token)): logprob for token, logprob in choice.top})
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": logprobs,
        "top_logprobs": likeliest if tops else None,
        "text_offset": offsets,
    }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
