"""Server-sent events, however their bytes are cut."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from zerotide.cli.sse import Comment, Data, EventReader, Phase

STREAM = (
    b": zerotide state=Loading elapsed=15s ready-in=42s\n\n"
    b'data: {"choices": [{"delta": {"content": "\xc3\x89t\xc3\xa9"}}]}\r\n\r\n'
    b"event: message\ndata: two\ndata: lines\n\n"
    b"id: 7\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    Comment("zerotide state=Loading elapsed=15s ready-in=42s"),
    Data('{"choices": [{"delta": {"content": "Été"}}]}'),
    Data("two\nlines"),
    Data("[DONE]"),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    """The same events, wherever the network cuts the bytes."""
    reader, found, start = EventReader(), [], 0
    for end in [*sorted(cuts), len(STREAM)]:
        found += reader.feed(STREAM[start:end])
        start = end
    assert found == EVENTS


def test_heartbeats_are_told_from_other_comments() -> None:
    """Only ours are taken apart."""
    assert Comment("zerotide state=Waking elapsed=5s").heartbeat() == {"state": "Waking", "elapsed": "5s"}
    assert Comment("keep-alive").heartbeat() is None
    assert Comment("").heartbeat() is None


def test_phases_are_told_from_other_comments() -> None:
    """Only ours are read, and only whole ones."""
    told = Comment('zerotide.phase {"state":"Loading","held":true,"elapsedMs":12,"readyInMs":900,"more":1}')
    assert told.phase() == Phase("Loading", True, 12, 900)
    assert told.heartbeat() is None
    assert Comment('zerotide.phase {"state":"Awake","held":false,"elapsedMs":12}').phase() == Phase(
        "Awake", False, 12, None
    )
    for other in ("zerotide state=Waking elapsed=5s", "zerotide.phase {", "zerotide.phase []", "zerotide.phase {}", ""):
        assert Comment(other).phase() is None


def test_the_end_is_recognised() -> None:
    """[DONE] is no JSON and ends the stream."""
    assert Data("[DONE]").done and not Data("{}").done
