"""The messages in a body of gRPC: each begins with a byte for its compression and four for its length."""

from __future__ import annotations

from zerotide.activator.failures import BodyTooLarge, MalformedRequest

PREFIX = 5


class Messages:
    """Watch the messages of a body as it passes, however its bytes arrive; `largest` is in bytes."""

    __slots__ = ("_largest", "_left", "_prefix")

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._left = 0
        self._prefix = b""

    def feed(self, data: bytes) -> None:
        """Watch a piece. Raises BodyTooLarge for a message beyond the limit, MalformedRequest for what is none."""
        position = 0
        while position < len(data):
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                continue
            step = PREFIX - len(self._prefix)
            self._prefix += data[position : position + step]
            position += step
            if len(self._prefix) == PREFIX:
                self._begin()

    def _begin(self) -> None:
        prefix, self._prefix = self._prefix, b""
        if prefix[0] > 1:
            raise MalformedRequest("the body is not one of gRPC: a message begins with 0 or 1")
        self._left = int.from_bytes(prefix[1:], "big")
        if self._left > self._largest:
            raise BodyTooLarge(f"the message is larger than {self._largest} bytes")
