"""WebSocket: an upgrade is admitted, held and forwarded as a request is; then bytes pass both ways until one side ends.

Nothing of the frames is read. A tunnel that ends without a closing frame is for its client a broken one (RFC 6455,
7.1.5), so that cutting it is detectable by nature.
"""

from __future__ import annotations

from collections.abc import Callable

from zerotide.activator.endpoints.endpoint import Replica
from zerotide.activator.failures import UpstreamFault
from zerotide.activator.traffic.outgoing import upstream_headers
from zerotide.activator.traffic.relay import Relay
from zerotide.activator.traffic.replies import relayed
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.traffic.way import Source
from zerotide.activator.wire import Flow, Headers, Limits, render_request
from zerotide.activator.wire.exchange import Tunnel
from zerotide.activator.wire.replica_end import ReplicaEnd, open_tunnel

_SWITCH: Headers = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


class TunnelRelay(Relay):
    """Pass on the answer to an upgrade, and after it whatever comes."""

    __slots__ = ("_client",)

    def __init__(self, visit: Visit, on_first: Callable[[], None]) -> None:
        super().__init__(visit, on_first)
        self._client: Tunnel | None = None

    def switched(self, headers: Headers, end: ReplicaEnd) -> Flow | None:
        """Tell the client that the replica agreed, and join both ends."""
        visit = self._visit
        self.status = visit.status = 101
        self._began()
        visit.exchange.start(101, [*relayed(headers, visit), *_SWITCH])
        self._client = visit.exchange.tunnel(end.write)
        return self._client

    def data(self, data: bytes) -> None:
        """Pass on what the replica sent."""
        if self.status != 101:
            super().data(data)
            return
        self.bytes += len(data)
        self._visit.exchange.write(data)

    def end(self) -> None:
        """Close the client's side once all is written."""
        self._shut()
        super().end()

    def lost(self, fault: UpstreamFault) -> None:
        """Remember why there will be no more."""
        self._shut()
        super().lost(fault)

    def _shut(self) -> None:
        if self._client is not None:
            self._client.close()


class TunnelWay:
    """The way of an upgrade: a connection of its own to the replica."""

    def __init__(self, visit: Visit, limits: Limits) -> None:
        self._visit, self._limits = visit, limits
        self._key = visit.exchange.request.get(b"sec-websocket-key").encode("latin-1")

    def _request(self) -> bytes:
        head, _ = render_request("GET", self._visit.target, [*upstream_headers(self._visit), *_SWITCH], b"")
        return head

    def size(self) -> int:
        """There is no body."""
        return 0

    def timeout(self, longest: float) -> float:
        """A WebSocket lives as long as a request may take."""
        return longest

    def relay(self, on_first: Callable[[], None]) -> Relay:
        """Return what takes the answer and what follows it."""
        return TunnelRelay(self._visit, on_first)

    def repeatable(self) -> bool:
        """Until a replica agreed nothing has happened."""
        return True

    async def send(self, replica: Replica, relay: Relay, *, fresh: bool = False) -> Source:
        """Ask a replica for the upgrade; the connection is always a new one."""
        assert isinstance(relay, TunnelRelay), "a way gets back what it made"
        pool = replica.pool
        return await open_tunnel(pool.host, pool.port, self._limits, self._request(), self._key, relay)
