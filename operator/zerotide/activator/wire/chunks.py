"""The sizes that the chunks of a body announce: llhttp tells a chunk's bytes as they come, but not how many will."""

from __future__ import annotations

LONGEST_LINE = 1024


class ChunkSizes:
    """Watch a body in chunks as it passes, however its bytes arrive. What is wrong with it is llhttp's to say."""

    __slots__ = ("_left", "_line", "_over", "announced")

    def __init__(self) -> None:
        self.announced = 0
        """Bytes of all chunks whose size is known, whether they came or not."""
        self._line = b""
        self._left = 0
        self._over = False

    def feed(self, data: bytes) -> int:
        """Watch a piece and return what is announced by now; what follows the last chunk is not looked at."""
        position = 0
        while position < len(data) and not self._over:
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                continue
            end = data.find(b"\n", position)
            self._line += data[position : end if end >= 0 else len(data)]
            if end < 0:
                self._over = len(self._line) > LONGEST_LINE
                break
            position = end + 1
            self._begin()
        return self.announced

    def _begin(self) -> None:
        line, self._line = self._line, b""
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            size = 0
        self._over = size <= 0
        if not self._over:
            self.announced += size
            self._left = size + len(b"\r\n")
