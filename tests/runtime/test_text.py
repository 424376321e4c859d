"""Growing text: incremental detokenisation and stop strings."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from zerotide_runtime.engine.text import Detokeniser, StopStrings


class Bytes:
    """A decoder with one token a byte; token 256 is special."""

    def decode(self, tokens: list[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode("utf-8", errors="replace")

    def is_special(self, token: int) -> bool:
        return token == 256


def grow(text: str) -> list[str]:
    detokeniser = Detokeniser(Bytes())
    return [detokeniser.push(byte) for byte in text.encode()] + [detokeniser.rest()]


@given(st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"])))
def test_the_pieces_join_to_the_whole(text: str) -> None:
    assert "".join(grow(text)) == text


def test_a_character_comes_when_it_is_complete() -> None:
    assert grow("a漢b") == ["a", "", "", "漢", "b", ""]


def test_the_rest_of_a_broken_character_is_shown_at_the_end() -> None:
    detokeniser = Detokeniser(Bytes())
    assert [detokeniser.push(byte) for byte in "é".encode()[:1]] == [""]
    assert detokeniser.rest() == "\ufffd"


def test_special_tokens_have_no_text() -> None:
    detokeniser = Detokeniser(Bytes())
    assert [detokeniser.push(token) for token in (65, 256, 66)] == ["A", "", "B"]


def run(stops: tuple[str, ...], pieces: list[str], *, keep: bool = False) -> tuple[str, str | None]:
    watch = StopStrings(stops, keep=keep)
    shown = ""
    for piece in pieces:
        visible, matched = watch.push(piece)
        shown += visible
        if matched is not None:
            return shown, matched
    return shown + watch.flush(), None


LETTERS = st.text("ab", max_size=12)


@given(LETTERS, st.lists(st.integers(0, 12), max_size=4), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_a_stop_string_ends_the_text_wherever_it_is_cut(text: str, cuts: list[int], stops: list[str]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    shown, matched = run(tuple(stops), pieces)
    if matched is None:
        assert shown == text
        assert not any(stop in text for stop in stops)
    else:
        assert text.startswith(shown + matched)
        assert not any(stop in shown for stop in stops)


@given(st.lists(LETTERS, max_size=6), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_only_what_may_become_a_stop_string_is_held_back(pieces: list[str], stops: list[str]) -> None:
    watch = StopStrings(tuple(stops))
    seen = shown = ""
    for piece in pieces:
        visible, matched = watch.push(piece)
        seen, shown = seen + piece, shown + visible
        if matched is not None:
            return
        held = seen[len(shown) :]
        assert seen.startswith(shown)
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_tgi_keeps_the_stop_string_and_only_looks_at_the_end() -> None:
    assert run(("\n",), ["one", "\n", "two"], keep=True) == ("one\n", "\n")
    assert run(("\n",), ["one\ntwo", " three"], keep=True) == ("one\ntwo three", None)
    assert run(("stop",), ["st", "op"], keep=True) == ("stop", "stop")
    assert run(("a",), ["xa", ""], keep=True) == ("xa", "a")


def test_the_first_stop_string_in_the_text_counts() -> None:
    assert run(("c", "b"), ["abc"]) == ("a", "b")
