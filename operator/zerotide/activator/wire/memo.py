"""Heads that were read before.

A client repeats itself: on one connection, and on all connections of one program, heads differ in little but the
digits of Content-Length. So a head that was parsed and found in order is remembered by all its other bytes, and one
with exactly the same bytes needs no parsing. Whatever differs in a single byte is parsed strictly.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

LONGEST = 8192
ENTRIES = 1024
_END = b"\r\n\r\n"
_LENGTH = b"ength: "
_NAMES = (b"\r\nContent-L", b"\r\ncontent-l")
_DIGITS = 15
"""Of a Content-Length: more could not be told from a number that overflows somewhere."""


class Cut(NamedTuple):
    """A head without the digits of its Content-Length, those as a number, and where the body begins."""

    key: bytes
    length: int
    body_at: int


_new = tuple.__new__
"""Makes a cut without a call of Python's, for each head is cut."""
UNCUT = Cut(b"", -1, 0)
"""In the place of a head that cannot be cut off: no body is as long as that."""


def cut(data: bytes) -> Cut | None:
    """Cut the head off that data begins with, None where it is not whole, too long or has an odd length.

    Of several lengths only the first is taken out, so heads that differ in another one have different keys.
    """
    end = data.find(_END, 0, LONGEST)
    if end < 0:
        return None
    at = data.find(_LENGTH, 0, end)
    if at < 0:
        return _new(Cut, (data[:end], 0, end + 4))
    if data[at - 11 : at] not in _NAMES:
        return None
    at += 7
    stop = data.find(b"\r\n", at)
    digits = data[at:stop]
    if stop - at > _DIGITS or not digits.isdigit():
        return None
    return _new(Cut, (data[:at] + data[stop:end], int(digits), end + 4))


class Memo(Generic[T]):
    """What was read of heads, by their cuts; forgets everything when it is full."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, T] = {}

    def get(self, key: bytes) -> T | None:
        """Return what was read of a head, None where it is new."""
        return self._known.get(key)

    def add(self, key: bytes, read: T) -> None:
        """Remember what was read of a head."""
        if len(self._known) >= ENTRIES:
            self._known.clear()
        self._known[key] = read
