"""The frames in a stream of bytes, by their heads: what is counted, timed and withheld before the engine sees it.

Counting here costs little and depends on nothing but RFC 9113, section 4.1. GOAWAY is taken out: the engine would end
the connection at once, although the streams that are open may still be answered.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 0x1, 0x4
HEAD = 9
_LONGEST_GOAWAY = 16 * 1024


class Frame(NamedTuple):
    """A frame's head."""

    kind: int
    flags: int
    length: int

    @property
    def idle(self) -> bool:
        """Tell whether it brings neither a request nor a part of one."""
        if self.kind == DATA:
            return not self.length and not self.flags & END_STREAM
        return self.kind not in (HEADERS, CONTINUATION, RST_STREAM)


class Goaway(NamedTuple):
    """What a peer said before it leaves."""

    last_stream: int
    error: int


class Frames:
    """Cut a stream of bytes into frames, however the bytes arrive."""

    def __init__(self) -> None:
        self.block_bytes = 0
        """Bytes of the block of headers that is not complete yet."""
        self.goaway: Goaway | None = None
        """What the peer said before it leaves, once it did."""
        self._head = b""
        self._left = 0
        self._in_block = False
        self._withheld: bytearray | None = None
        self._kind = DATA

    @property
    def unfinished(self) -> bool:
        """Tell whether the bytes so far end within a block of headers, or a frame that is no part of a body."""
        return bool(self._head) or self._in_block or (self._left > 0 and self._kind != DATA)

    def feed(self, data: bytes) -> tuple[bytes, list[Frame]]:
        """Return the bytes without GOAWAY frames, and the heads of the frames that began."""
        kept: list[bytes] = []
        begun: list[Frame] = []
        position, size = 0, len(data)
        while position < size:
            if self._left:
                end = min(position + self._left, size)
                self._left -= end - position
                if self._withheld is None:
                    kept.append(data[position:end])
                elif len(self._withheld) < _LONGEST_GOAWAY:
                    self._withheld += data[position:end]
                position = end
            else:
                end = min(position + HEAD - len(self._head), size)
                self._head += data[position:end]
                position = end
                if len(self._head) == HEAD:
                    begun.append(self._begin(kept))
            if not self._left and self._withheld is not None:
                self._end_goaway(self._withheld)
        return b"".join(kept), begun

    def _begin(self, kept: list[bytes]) -> Frame:
        head, self._head = self._head, b""
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        self._left, self._kind = length, kind
        if kind == GOAWAY:
            self._withheld = bytearray()
        else:
            kept.append(head)
        if kind in (HEADERS, CONTINUATION, PUSH_PROMISE):
            self.block_bytes = (self.block_bytes if self._in_block else 0) + length
            self._in_block = not flags & END_HEADERS
        return Frame(kind, flags, length)

    def _end_goaway(self, payload: bytearray) -> None:
        self._withheld = None
        if len(payload) >= 8:
            last_stream, error = struct.unpack_from(">II", payload)
            self.goaway = Goaway(last_stream & 0x7FFFFFFF, error)
