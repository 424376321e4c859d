"""One client connection as its exchanges see it: answers in order, deadlines, and an end that is understood."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from zerotide.activator.failures import (
    AnswerUnread,
    BodyStalled,
    HeadTimeout,
    IdleTimeout,
    PeerFault,
    RequestTooOld,
)
from zerotide.activator.wire.door import Peer
from zerotide.activator.wire.exchange import Exchange
from zerotide.activator.wire.host import Host
from zerotide.activator.wire.message import Request
from zerotide.activator.wire.tunnel import ClientEnd

log = logging.getLogger(__name__)

NOBODY = Peer("")


class Phase(Enum):
    """What the connection waits for."""

    IDLE = "a request"
    HEAD = "the end of a head"
    BODY = "a body that is asked for"
    BUSY = "an answer"
    UNREAD = "the client to read"
    LINGER = "the client to close"


class Carriage(asyncio.Protocol):
    """A client's connection without the reading of requests: each is answered after the one before it."""

    __slots__ = (
        "_broken",
        "_current",
        "_early",
        "_fault",
        "_host",
        "_in_head",
        "_limits",
        "_peer",
        "_phase",
        "_progress",
        "_reading",
        "_receiving",
        "_since",
        "_task",
        "_transport",
        "_waiting",
        "_writable",
        "deadline",
    )

    def __init__(self, host: Host, peer: Peer | None = None) -> None:
        """`peer` is who was let in already; by default it is who the socket tells, and is let in here."""
        self._host = host
        self._limits = host.limits
        self._transport: asyncio.Transport | None = None
        self._peer = peer
        self._since = 0.0
        self._phase = Phase.IDLE
        self.deadline = 0.0
        self._in_head = False
        self._early: bytes | None = None
        self._fault: PeerFault | None = None
        self._broken = False
        self._receiving: Exchange | None = None
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Exchange] = []
        self._progress = 0
        self._reading = self._writable = True

    def pause_writing(self) -> None:
        """Make the source of the answer wait."""
        self._writable = False
        self.deadline = self._host.now() + self._limits.write_time
        if self._current is not None and self._current.flow is not None:
            self._current.flow.pause()

    def resume_writing(self) -> None:
        """Let the source of the answer go on."""
        self._writable = True
        if self._phase is Phase.BUSY:
            self.deadline = 0.0
        elif self._phase is Phase.UNREAD:
            self._next()
        if self._current is not None and self._current.flow is not None:
            self._current.flow.resume()

    def _forget(self) -> None:
        """Tell whoever works on a request that nobody waits for the answer."""
        for exchange in (self._current, self._receiving, *self._waiting):
            if exchange is not None:
                self._release(exchange)
                exchange.detach()
        self._waiting.clear()
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._broken = True
        self._current = self._receiving = self._task = None

    # Requests

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        self._enter(Phase.BUSY, 0.0)
        self._start(exchange)

    def _start(self, exchange: Exchange) -> None:
        self._since = self._host.now()
        if not exchange.complete or not self._host.express(exchange):
            self._task = self.work(self._host.handle(exchange))

    def _handled(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a request's handler failed", exc_info=error)
        if task is self._task and self._current is not None:
            self._current.cut()

    def _next(self) -> None:
        if not self._writable:
            # Or one that reads no answers would have as many of them kept here as it can ask for.
            self._enter(Phase.UNREAD, self._limits.write_time)
            self._read(False)
            return
        if self._waiting:
            self._begin(self._waiting.pop(0))
            if self._waiting:
                return
        elif self._in_head:
            self._enter(Phase.HEAD, self._limits.head_time)
        else:
            self._enter(Phase.IDLE, self._limits.idle_time)
        self._read(True)

    def _refuse(self, fault: PeerFault) -> None:
        self._broken, self._fault = True, fault
        if self._receiving is not None and not self._receiving.ended:
            self._receiving.fail(fault)
            return
        self.noted(fault)
        if self._current is None and not self._waiting:
            status, headers, body = self._host.answer_to(fault)
            request = Request("GET", "/", [], length=None, chunked=False, keep_alive=False, expects_continue=False)
            self._current = Exchange(request, self._peer or NOBODY, self, 0)
            self._current.send(status, headers, body)

    # Carrier

    def send(self, data: bytes) -> None:
        """Write bytes to the client; uvloop sends together what is written in one turn of the loop."""
        if self._transport is not None:
            self._transport.write(data)

    def body_wanted(self, exchange: Exchange) -> None:
        """Read on, with a deadline on progress."""
        self._progress = 0
        self._enter(Phase.BODY, self._limits.body_time)
        self._read(True)

    def body_progressed(self, size: int) -> None:
        """Renew the deadline once enough has arrived."""
        self._progress += size
        if self._phase is Phase.BODY and self._progress >= self._limits.body_progress:
            self._progress = 0
            self.deadline = self._host.now() + self._limits.body_time

    def hold_unread(self) -> None:
        """Stop reading a body that nobody has asked for yet."""
        self._read(False)

    def noted(self, fault: PeerFault) -> None:
        """Count what went wrong."""
        self._host.door.faults[fault.reason] += 1

    def reserve(self, size: int) -> bool:
        """Take memory of the server's budget for bodies."""
        if self._host.buffered + size > self._limits.buffered_bytes:
            return False
        self._host.buffered += size
        return True

    def tunnel(self, receiver: Callable[[bytes], None]) -> ClientEnd | None:
        """Pass on as it is what the client sends from now on; return what makes the client wait."""
        if self._transport is None:
            return None
        end = ClientEnd(self, self._transport, receiver)
        self._transport.set_protocol(end)
        if self._early:
            receiver(self._early)
        self._read(True)
        return end

    def must_close(self) -> bool:
        """Tell whether the connection ends after this answer."""
        request = self._current.request if self._current is not None else None
        broken = self._broken and not self._waiting
        return broken or self._host.draining or request is None or not request.keep_alive

    def work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Answer the current request by a task."""
        task = self._task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._handled)
        return task

    def writable(self) -> bool:
        """Tell whether the client reads fast enough."""
        return self._writable

    def finished(self, exchange: Exchange) -> None:
        """Go on with the next request; close where the head of the answer said so."""
        closing = self.must_close()
        self._release(exchange)
        self._current = self._task = None
        if not exchange.complete or (self._broken and not self._waiting):
            self._linger()
        elif closing:
            self._close()
        else:
            self._next()

    def cut(self) -> None:
        """Send what is written and close, the last chunk left out."""
        if self._current is not None:
            self._release(self._current)
        self._current = self._task = None
        self._waiting.clear()
        self._close()

    def _release(self, exchange: Exchange) -> None:
        self._host.buffered -= exchange.surrender()

    # Ends and deadlines

    def _close(self) -> None:
        self._broken = True
        self._enter(Phase.LINGER, self._limits.write_time)
        if self._transport is not None:
            self._transport.close()

    def _linger(self) -> None:
        self._broken = True
        self._enter(Phase.LINGER, self._limits.linger_time)
        self._read(True)
        if self._transport is not None and self._transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def shut_idle(self) -> None:
        """Close the connection if nothing is going on; what the client has not read yet is sent all the same."""
        if self._phase is Phase.IDLE or (self._phase is Phase.UNREAD and not self._waiting):
            self._close()

    def overrule(self, fault: PeerFault) -> None:
        """End the request that is being worked on: its handler is cancelled, and answers with the fault."""
        current = self._current
        if current is None:
            return
        if self._task is not None and not self._task.done():
            self._since = math.inf
            current.overruled = fault
            self.noted(fault)
            self._task.cancel()
        elif current.watcher is not None:
            self._since = math.inf
            self.noted(fault)
            current.watcher.overruled(fault)

    def abort(self) -> asyncio.Task[None] | None:
        """Drop the connection; return the task that works on a request, if any."""
        task = self._task
        if self._transport is not None:
            self._transport.abort()
        self._forget()
        return task

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if self._current is not None and now - self._since > self._limits.request_age:
            self.overrule(RequestTooOld(f"the request lived longer than {self._limits.request_age:g} s"))
        if not self.deadline or now < self.deadline or self._transport is None:
            return
        self.deadline = 0.0
        if self._phase is Phase.HEAD:
            self._refuse(HeadTimeout(f"the request's head did not arrive within {self._limits.head_time:g} s"))
        elif self._phase is Phase.BODY and self._receiving is not None:
            self._receiving.fail(BodyStalled(f"the body made no progress for {self._limits.body_time:g} s"))
        elif self._phase is Phase.IDLE:
            self.noted(IdleTimeout(f"no request came for {self._limits.idle_time:g} s"))
            self._close()
        else:
            if self._phase in (Phase.BUSY, Phase.UNREAD):
                self.noted(AnswerUnread(f"the answer was not read for {self._limits.write_time:g} s"))
            self._transport.abort()

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self.deadline = self._host.now() + seconds if seconds else 0.0

    def _read(self, on: bool) -> None:
        if self._transport is None or on is self._reading or self._transport.is_closing():
            return
        self._reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
