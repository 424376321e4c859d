"""HTTP/1.1 and HTTP/2 on sockets, and the seam between them and everything else.

The rest of the activator sees four things: `Server` calls a handler with one `Exchange` per request (its head, its
body on demand, the answer, and cancellation once the client is gone), unless `express` took it on the spot; `Pool`
sends bytes to one replica and calls a `Sink` with the answer as it comes; `render_request` and `Headers` put heads
together. Requests and answers are parsed strictly and framed anew; bodies pass through untouched and with
back-pressure.
"""

from zerotide.activator.wire.acceptor import Network
from zerotide.activator.wire.door import Door, Peer
from zerotide.activator.wire.exchange import Exchange, Flow
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.listening import open_socket
from zerotide.activator.wire.message import Headers, Request, end_to_end, render_lines, render_request, status_line
from zerotide.activator.wire.pool import Pool
from zerotide.activator.wire.server import Handler, Server
from zerotide.activator.wire.tls import Certificate
from zerotide.activator.wire.upstream import ResponseHead, Sink, UpstreamConnection

__all__ = [
    "Certificate",
    "Door",
    "Exchange",
    "Flow",
    "Handler",
    "Headers",
    "Limits",
    "Network",
    "Peer",
    "Pool",
    "Request",
    "ResponseHead",
    "Server",
    "Sink",
    "UpstreamConnection",
    "end_to_end",
    "open_socket",
    "render_lines",
    "render_request",
    "status_line",
]
