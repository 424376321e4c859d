"""What can go wrong in the activator.

    ActivatorError
    ├── SettingsError           a flag or an environment variable that makes no sense
    ├── CertificateUnusable     files that are no certificate and its key
    ├── ChildSilent             one of the pod's processes that does not answer its parent
    ├── PeerFault               the client's doing; `message` may be shown to it
    │   ├── MalformedRequest    not HTTP/1.1 as it should be: refused, the connection ends
    │   ├── HeadTooLarge        request line and headers beyond their limit
    │   ├── HeadTimeout         the head did not arrive in time
    │   ├── IdleTimeout         no request on an open connection for long
    │   ├── BodyTooLarge        more bytes than the endpoint takes
    │   ├── BodyStalled         the body stopped to arrive
    │   ├── BuffersFull         bodies of all requests together beyond their limit
    │   ├── AnswerUnread        the client does not read its answer
    │   ├── RequestTooOld       a request that lives longer than any may
    │   ├── ShuttingDown        a request that did not end before the activator had to
    │   ├── FloodingPeer        frames of HTTP/2 that cost and bring no request
    │   ├── TooManyConnections  open ones, in all
    │   ├── TooManyFromAddress  open ones, from one address
    │   ├── MalformedProxyHeader   a trusted proxy that does not begin with its header
    │   └── HandshakeFailed     no TLS
    ├── LedgerSilent            an exporter that does not answer what it is asked
    ├── MalformedTalk           another activator's message that makes no sense
    ├── MemberRedirects         another activator's address that leads elsewhere, where no token of ours goes
    ├── TokenRefused            a token that opens nothing; `reason` is its word in the metrics
    │   ├── TokenMalformed      no signed token, or larger than any that is taken
    │   ├── AlgorithmRefused    signed in a way that is not on the list
    │   ├── WrongIssuer         of an issuer that the endpoint does not trust
    │   ├── WrongAudience       meant for others
    │   ├── TokenExpired        its time is over
    │   ├── TokenNotYetValid    its time has not come
    │   ├── KeyUnknown          signed with a key that the issuer does not publish
    │   ├── SignatureWrong      not signed with the key that it names
    │   └── ConsumerUnfit       it names nobody who could pay
    ├── KeysUnavailable         an issuer's keys that cannot be had
    │   ├── AddressRefused      a URL that leads where the cluster's policy allows nothing
    │   ├── KeysUnreachable     no answer, or none that is one
    │   ├── KeysMissing         withdrawn: no such ConfigMap, or no key in the set that can be used
    │   └── KeysMalformed       no key set
    ├── KeysAwaited             a token that can be judged only once keys have come
    ├── AbroadUnavailable       a fallback's URL that cannot serve; nothing of an answer was sent
    └── UpstreamFault           the replica's doing
        ├── ConnectFailed       no connection: refused, unreachable, timed out
        ├── ResponseLost        the connection ended before the first byte of the answer
        ├── ResponseTruncated   it ended within the answer
        └── MalformedResponse   the answer is not HTTP

What clients are told of endpoints is `zerotide.api.errors.Rejection`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class ActivatorError(Exception):
    """Any failure of the activator's own."""


class SettingsError(ActivatorError):
    """A setting that makes no sense; the message names it and what it should be."""


class CertificateUnusable(ActivatorError):
    """Files that are no certificate with its key."""


class LedgerSilent(ActivatorError):
    """An exporter that does not answer, or refuses; the message says what came instead."""


class ChildSilent(ActivatorError):
    """One of the pod's processes that does not answer, or does not tell what it is asked."""


class PeerFault(ActivatorError):
    """A request that its client got wrong, or one that met a limit.

    `reason` is its word in the metrics.
    """

    reason = "malformed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class MalformedRequest(PeerFault):
    """Bytes that are no request as RFC 9112 wants them, or one that could be read in two ways."""


class HeadTooLarge(PeerFault):
    """A request line or headers beyond their limit."""

    reason = "head_bytes"


class HeadTimeout(PeerFault):
    """A head that did not arrive in time."""

    reason = "head_time"


class BodyTooLarge(PeerFault):
    """A body of more bytes than allowed."""

    reason = "body_bytes"


class BodyStalled(PeerFault):
    """A body that stopped to arrive."""

    reason = "body_progress"


class BuffersFull(PeerFault):
    """A body for which there is no memory now."""

    reason = "body_memory"


class IdleTimeout(PeerFault):
    """A connection on which no request came for long."""

    reason = "idle_time"


class AnswerUnread(PeerFault):
    """An answer that its client does not read."""

    reason = "write_time"


class RequestTooOld(PeerFault):
    """A request that lives longer than any may, whatever it does."""

    reason = "request_age"


class ShuttingDown(PeerFault):
    """A request that did not end before the activator had to."""

    reason = "shutdown"


class FloodingPeer(PeerFault):
    """A client of HTTP/2 whose frames cost us and bring no request: resets, pings, settings, empty ones."""

    reason = "flood"


class TooManyConnections(PeerFault):
    """A connection beyond the number that may be open."""

    reason = "connections"


class TooManyFromAddress(PeerFault):
    """A connection beyond the number that may be open from one address."""

    reason = "connections_per_address"


class MalformedProxyHeader(PeerFault):
    """A connection from a trusted proxy that does not begin with a header of the PROXY protocol."""

    reason = "proxy_protocol"


class HandshakeFailed(PeerFault):
    """A client with which there is no TLS: none spoken, too old, given up, too slow."""

    reason = "tls_handshake"


class MalformedTalk(ActivatorError):
    """A message of another activator that makes no sense; the connection to it ends."""


class MemberRedirects(ActivatorError):
    """Another activator's address leads elsewhere."""


class TokenRefused(ActivatorError):
    """A token that opens nothing."""

    reason = "malformed"


class TokenMalformed(TokenRefused):
    """Text that is no signed token, or larger than any that is taken."""


class AlgorithmRefused(TokenRefused):
    """A token that is signed in a way that is not on the list: not at all, or with a shared secret."""

    reason = "algorithm"


class WrongIssuer(TokenRefused):
    """A token of an issuer that the endpoint does not trust."""

    reason = "issuer"


class WrongAudience(TokenRefused):
    """A token that is meant for others."""

    reason = "audience"


class TokenExpired(TokenRefused):
    """A token whose time is over, or that does not say when it is."""

    reason = "expired"


class TokenNotYetValid(TokenRefused):
    """A token whose time has not come."""

    reason = "not_yet_valid"


class KeyUnknown(TokenRefused):
    """A token that is signed with a key that its issuer does not publish."""

    reason = "key"


class SignatureWrong(TokenRefused):
    """A token that is not signed with the key that it names."""

    reason = "signature"


class ConsumerUnfit(TokenRefused):
    """A genuine token that names nobody who could pay."""

    reason = "consumer"


class KeysUnavailable(ActivatorError):
    """An issuer's keys that cannot be had; the message names where they should be, and is not for callers."""


class AddressRefused(KeysUnavailable, OSError):
    """A URL that leads to an address that the cluster's policy does not allow."""


class KeysUnreachable(KeysUnavailable):
    """No answer from where the keys should be, or one that is no key set's."""


class KeysMissing(KeysUnavailable):
    """Keys that their issuer withdrew: no such ConfigMap, or no key in the set that can be used."""


class KeysMalformed(KeysUnavailable):
    """A text that is no JSON Web Key Set."""


class KeysAwaited(ActivatorError):
    """A token that can be judged only once keys have come; `ready` returns when they have, or cannot be had."""

    def __init__(self, ready: Callable[[], Awaitable[None]]) -> None:
        super().__init__("the keys are awaited")
        self.ready = ready


class AbroadUnavailable(ActivatorError):
    """A fallback's URL that cannot serve a request; the message is for the log, not for callers."""


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
