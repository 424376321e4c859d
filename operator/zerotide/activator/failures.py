"""What can go wrong in the activator.

    ActivatorError
    ├── SettingsError           a flag or an environment variable that makes no sense
    ├── PeerFault               the client's doing; `message` may be shown to it
    │   ├── MalformedRequest    not HTTP/1.1 as it should be: refused, the connection ends
    │   ├── HeadTooLarge        request line and headers beyond their limit
    │   ├── HeadTimeout         the head did not arrive in time
    │   ├── BodyTooLarge        more bytes than the endpoint takes
    │   ├── BodyStalled         the body stopped to arrive
    │   └── BuffersFull         bodies of all requests together beyond their limit
    ├── PeerGone                the client closed the connection
    └── UpstreamFault           the replica's doing
        ├── ConnectFailed       no connection: refused, unreachable, timed out
        ├── ResponseLost        the connection ended before the first byte of the answer
        ├── ResponseTruncated   it ended within the answer
        └── MalformedResponse   the answer is not HTTP

What clients are told of endpoints is `zerotide.api.errors.Rejection`.
"""

from __future__ import annotations


class ActivatorError(Exception):
    """Any failure of the activator's own."""


class SettingsError(ActivatorError):
    """A setting that makes no sense; the message names it and what it should be."""


class PeerFault(ActivatorError):
    """A request that its client got wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class MalformedRequest(PeerFault):
    """Bytes that are no request as RFC 9112 wants them, or one that could be read in two ways."""


class HeadTooLarge(PeerFault):
    """A request line or headers beyond their limit."""


class HeadTimeout(PeerFault):
    """A head that did not arrive in time."""


class BodyTooLarge(PeerFault):
    """A body of more bytes than allowed."""


class BodyStalled(PeerFault):
    """A body that stopped to arrive."""


class BuffersFull(PeerFault):
    """A body for which there is no memory now."""


class PeerGone(ActivatorError):
    """The client closed its connection."""


class UpstreamFault(ActivatorError):
    """A replica that failed to answer."""


class ConnectFailed(UpstreamFault):
    """No connection to the replica: refused, unreachable or timed out."""


class ResponseLost(UpstreamFault):
    """The connection ended before the first byte of the answer.

    `reused` tells that it had served before, so that the replica may just have closed it as idle.
    """

    def __init__(self, message: str, *, reused: bool = False) -> None:
        super().__init__(message)
        self.reused = reused


class ResponseTruncated(UpstreamFault):
    """The connection ended within the answer."""


class MalformedResponse(UpstreamFault):
    """The answer is not HTTP, or beyond the limits of its head."""
