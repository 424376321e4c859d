"""The messages in a body of gRPC, however their bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.activator.admission.messages import Messages
from zerotide.activator.failures import BodyTooLarge, MalformedRequest


@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.integers(1, 9), max_size=30), st.integers(0, 12))
def test_only_large_messages_are_refused(messages: list[bytes], cuts: list[int], largest: int) -> None:
    """Wherever the bytes are cut."""
    rest = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
    watcher, refused = Messages(largest), False
    for size in [*cuts, len(rest)]:
        piece, rest = rest[:size], rest[size:]
        try:
            watcher.feed(piece)
        except BodyTooLarge:
            refused = True
            break
    assert refused is any(len(message) > largest for message in messages)


def test_what_is_no_message() -> None:
    """The first byte says whether it is compressed, and nothing else."""
    Messages(10).feed(b"\1\0\0\0\1x")
    with pytest.raises(MalformedRequest):
        Messages(10).feed(b"\2" + bytes(4))
    with pytest.raises(MalformedRequest):
        Messages(10).feed(b"{" + bytes(4))
