"""A connection that changed its protocol: bytes pass both ways as they are, each side waiting for the other.

Only an upgrade to WebSocket opens one, and only once the replica agreed to it: a refused upgrade is an answer like
any other, after which nothing more is read from the client.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Protocol

from zerotide.activator.failures import MalformedRequest
from zerotide.activator.wire.message import Headers, connection_tokens


class Behind(Protocol):
    """The connection whose place a tunnel's end took; it still knows about deadlines, writing and ends."""

    def data_received(self, data: bytes) -> None:
        """Take what comes when nobody wants it any more."""

    def pause_writing(self) -> None:
        """Make the replica wait."""

    def resume_writing(self) -> None:
        """Let the replica go on."""

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever works on the request that the client is gone."""


class ClientEnd(asyncio.Protocol):
    """The client's end of a tunnel, in the place of its connection; paused while the replica does not read."""

    def __init__(self, behind: Behind, transport: asyncio.Transport, receiver: Callable[[bytes], None]) -> None:
        self._behind = behind
        self._transport = transport
        self._receiver: Callable[[bytes], None] | None = receiver
        self._reading = True

    # Flow

    def pause(self) -> None:
        """Stop reading from the client."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def close(self) -> None:
        """Pass nothing on any more; what still comes is dropped, and counted."""
        self._receiver = None
        self.resume()

    # Transport

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived."""
        if self._receiver is None:
            self._behind.data_received(data)
        else:
            self._receiver(data)

    def eof_received(self) -> bool | None:
        """Close: WebSocket has no half-closed connections."""
        return None

    def pause_writing(self) -> None:
        """Make the replica wait."""
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        """Let the replica go on."""
        self._behind.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever works on the request."""
        self._receiver = None
        self._behind.connection_lost(error)


def opens_websocket(headers: Headers) -> bool:
    """Tell whether a head asks for WebSocket; other upgrades are ignored, as RFC 9110 allows."""
    return any(name == b"upgrade" and b"websocket" in value.lower() for name, value in headers)


def check_opening(method: str, headers: Headers, *, alone: bool) -> None:
    """Raise MalformedRequest unless a head opens a WebSocket as RFC 6455 says.

    `alone` tells that no other request of the connection is still to be answered.
    """
    if method != "GET":
        raise MalformedRequest("WebSocket is opened with GET")
    if not alone:
        raise MalformedRequest("an upgrade must wait for the answers to the requests before it")
    if [value.lower() for name, value in headers if name == b"upgrade"] != [b"websocket"]:
        raise MalformedRequest("Upgrade must be websocket, and nothing beside it")
    if b"upgrade" not in connection_tokens(headers):
        raise MalformedRequest("Connection must name Upgrade")
    if [value for name, value in headers if name == b"sec-websocket-version"] != [b"13"]:
        raise MalformedRequest("Sec-WebSocket-Version must be 13")
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    if len(keys) != 1 or not _is_key(keys[0]):
        raise MalformedRequest("Sec-WebSocket-Key must be 16 bytes in Base64, once")


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
