"""How many tokens a request and its answer may come to at most."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.activator.quota.bounds import TEMPLATE, Bound, bound_of
from zerotide.activator.quota.meter import Meter
from zerotide.activator.usage.tap import Events
from zerotide.api.errors import Rejection
from zerotide.api.protocol import Protocol

CHAT = "/v1/chat/completions"


def event(content: Any) -> bytes:
    """Return an event."""
    return b"data: " + (content if isinstance(content, bytes) else json.dumps(content).encode()) + b"\n\n"


def word(text: str, **more: Any) -> bytes:
    """Return an event with text."""
    return event({"choices": [{"index": 0, "delta": {"content": text}}], **more})


@pytest.mark.parametrize(
    ("path", "body", "output"),
    [
        (CHAT, {"max_tokens": 7}, 7),
        (CHAT, {"max_tokens": 7, "max_completion_tokens": 9}, 9),
        (CHAT, {"max_tokens": 7, "n": 3}, 21),
        ("/v1/completions", {"max_tokens": 7, "prompt": ["a", "b"], "best_of": 2}, 28),
        ("/v1/completions", {"max_tokens": 7, "prompt": [1, 2, 3]}, 7),
        ("/v1/responses", {"max_output_tokens": 5}, 5),
        ("/generate", {"inputs": "x", "parameters": {"max_new_tokens": 8}}, 8),
        ("/v1/embeddings", {"input": "x"}, 0),
        ("/v1/rerank", {"query": "x", "n": 4}, 0),
    ],
)
def test_bounds(path: str, body: dict[str, Any], output: int) -> None:
    data = json.dumps(body).encode()
    found = bound_of(data, path, False, "b")
    assert (found.input, found.output) == (len(data) + TEMPLATE, output)


@pytest.mark.parametrize("value", [None, 0, -5, True, "7", 7.5])
def test_what_is_no_limit_bounds_nothing(value: Any) -> None:
    data = json.dumps({"max_tokens": value}).encode()
    assert bound_of(data, CHAT, True, "b") == Bound(len(data) + TEMPLATE, None, 1)
    with pytest.raises(Rejection, match="give `max_tokens`, or ask for a stream"):
        bound_of(data, CHAT, False, "b")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000])
def test_no_object_has_no_bound(data: bytes) -> None:
    with pytest.raises(Rejection, match="budget b is never passed"):
        bound_of(data, CHAT, True, "b")


def test_a_name_in_escapes_is_the_same_name() -> None:
    with pytest.raises(Rejection, match="`image_url` may be any number of tokens"):
        bound_of(b'{"max_tokens":1,"messages":[{"image\\u005furl":"x"}]}', CHAT, True, "b")


def test_text_counts_by_its_bytes_and_usage_exactly() -> None:
    meter = Meter(1)
    meter.passed(word("word"))
    assert meter.after(word("é")) == 6
    assert meter.after(word("", usage={"prompt_tokens": 3, "completion_tokens": 2})) == 2
    assert Meter(1).after(event(b"[DONE]")) == 1, "as it is settled where it is the last"
    assert Meter(1).after(b": a comment\n\n") == 0
    assert Meter(1).after(event(b"no json")) == len(event(b"no json"))
    both = Meter(2)
    assert both.after(word("four", usage={"prompt_tokens": 3, "completion_tokens": 2})) == 4, "of one choice of two"
    assert both.after(event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})) == 2
    assert Meter(1).after(event({"token": {"id": 5, "text": "word", "logprob": -0.5}})) == 4
    call = {"tool_calls": [{"index": 0, "function": {"arguments": '{"city"'}}]}
    assert Meter(1).after(event({"choices": [{"delta": call}]})) == 7
    assert Meter(1).after(b"event: content_block_delta\n" + event({"delta": {"type": "t", "text": "ab"}})) == 3


PIECES = st.one_of(
    st.text(max_size=6).map(word),
    st.integers(0, 30).map(lambda made: word("x", usage={"prompt_tokens": 1, "completion_tokens": made})),
    st.just(event(b"[DONE]")),
    st.just(b": a comment\n\n"),
    st.binary(max_size=5).map(lambda data: event(data.replace(b"\n", b"").replace(b"\r", b""))),
)


@given(st.lists(PIECES, max_size=20))
def test_a_stream_that_breaks_off_is_never_settled_beyond_what_was_counted(pieces: list[bytes]) -> None:
    tap, meter = Events(Protocol.OPENAI, strip=False), Meter(1)
    most = 0
    for piece in pieces:
        most = max(most, meter.after(piece))
        meter.passed(piece)
        tap.feed(piece)
        tokens = tap.tokens()
        assert tokens is None or tokens.output <= most
