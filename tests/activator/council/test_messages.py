"""What activators say to each other: read back as it was written, and refused where it is anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.activator.council.messages import Ask, Fetch, Give, Grant, Lease, Message, Report, Told, decode, encode
from zerotide.activator.failures import MalformedTalk

names = st.text(max_size=5)
counts = st.dictionaries(names, st.integers(0, 99), max_size=3)
numbers = st.integers(0, 2**53)
asks = st.builds(
    Ask, names, numbers, numbers, st.none() | numbers, numbers, names, st.booleans(), numbers, st.booleans()
)
messages: st.SearchStrategy[Message] = st.one_of(
    asks,
    st.builds(Report, names, counts, st.lists(names, max_size=3), st.lists(asks, max_size=3)),
    st.builds(Grant, names, numbers, names),
    st.builds(Lease, names, counts),
    st.builds(
        Told,
        st.lists(names, max_size=3),
        st.dictionaries(names, st.lists(st.integers(0, 9), min_size=2, max_size=2), max_size=3),
    ),
    st.builds(Give, names, numbers, numbers),
    st.builds(Fetch, names, numbers),
)


@given(messages)
def test_a_message_comes_as_it_was_sent(message: Message) -> None:
    """One line each, whatever the names are."""
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("{}", "no message that is known"),
        ("[]", "no message that is known"),
        ('["Steal", "k"]', "no message that is known"),
        ('["Recall"]', "has 1 fields"),
        ('["Recall", "k", "k"]', "has 1 fields"),
        ('["Recall", 1]', "wrong type"),
        ('["Lease", "k", "m-0"]', "wrong type"),
        ('["Lease", "k", {"m-0": "8"}]', "wrong shape"),
        ('["Lease", "k", {"m-0": true}]', "wrong shape"),
        ('["Report", "k", {}, [1], []]', "wrong shape"),
        ('["Report", "k", {"m-0": null}, [], []]', "wrong shape"),
        ('["Report", "k", {}, [], ["Ask"]]', "has 9 fields"),
        ('["Told", ["a"], {"n": [1]}]', "wrong shape"),
        ('["Told", [1], {}]', "wrong shape"),
    ],
)
def test_what_is_no_message(said: str, why: str) -> None:
    """A peer of another version, or a broken one, is told apart from a bug here."""
    with pytest.raises(MalformedTalk, match=why):
        decode(said)
