"""Request lines as they came: llhttp tells neither the protocol's name nor how many spaces there were.

It takes RTSP for HTTP with some methods, and several spaces for one. Another server might not.
"""

from __future__ import annotations

from zerotide.activator.failures import MalformedRequest


class RequestLines:
    """The bytes that were given to llhttp since a head began, and where in them a request line must be.

    That place is not known behind a body that began in an earlier piece, or that came in chunks: the line is looked
    for in what follows then.
    """

    __slots__ = ("_at", "_exact", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0
        self._exact = True

    def fed(self, data: bytes, *, in_head: bool, in_body: bool) -> None:
        """Note what llhttp is given next."""
        if in_head:
            self._pieces.append(data)
        else:
            self._pieces, self._at, self._exact = [data], 0, not in_body

    def clear(self) -> None:
        """Forget what holds no part of an open head."""
        self._pieces = []

    def behind(self) -> bytes:
        """Return what came behind the head that was checked last, where that has no length."""
        return self._pieces[0][self._at :]

    def check(self, method: str, target: bytes, length: int | None, *, chunked: bool) -> None:
        """Raise MalformedRequest unless the line of a head that is complete has its one form; go on behind the body."""
        raw = b"".join(self._pieces)
        self._pieces = [raw]
        line = method.encode("latin-1") + b" " + target + b" HTTP/1.1\r\n"
        if self._exact:
            at = self._at
            while raw[at : at + 1] in (b"\r", b"\n"):
                at += 1
            at = at if raw.startswith(line, at) else -1
        else:
            at = raw.find(line, self._at)
        if at < 0:
            raise MalformedRequest("the request line is not a method, a target and HTTP/1.1, with one space between")
        self._at = raw.find(b"\r\n\r\n", at) + 4 + (length or 0)
        self._exact = self._exact and not chunked
