"""The way of a request that came whole: held, sent on and answered without a task.

Whatever does not fit, before the request is sent or after, goes on by a task as `handle` has it, which knows how to
make connections, to repeat and to refuse. So nothing is decided here that is not decided there as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from zerotide.activator.admission.seats import Seat
from zerotide.activator.endpoints.endpoint import Replica
from zerotide.activator.failures import ConnectFailed, PeerFault, ResponseLost, UpstreamFault
from zerotide.activator.traffic.books import Books
from zerotide.activator.traffic.forwarder import Forwarder, cut_off, too_late
from zerotide.activator.traffic.holder import Holder, Place
from zerotide.activator.traffic.readings import Plan, tail_of
from zerotide.activator.traffic.relay import Conveyor, Passing
from zerotide.activator.traffic.replies import passage_lines, passed_on, rejection_of
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.traffic.waiting import Waiting
from zerotide.activator.usage.tap import AllAtOnce, Kind
from zerotide.activator.wire import ResponseHead, UpstreamConnection, render_lines, status_line
from zerotide.api.errors import Rejection
from zerotide.api.usage import Outcome

TICK = 0.1
"""How often is looked for answers that take too long."""


class Known(Passing):
    """What is made of the head of an answer, once for all answers that share it."""

    __slots__ = ("lines",)

    def __init__(self, head: ResponseHead) -> None:
        super().__init__(head.headers)
        self.lines = status_line(head.status) + render_lines(passed_on(head.headers))
        """The head as the client gets it, up to what differs from request to request."""


class Run(Conveyor):
    """One request on its way to one replica and its answer on the way back; ends exactly once."""

    __slots__ = (
        "_connection",
        "_first_us",
        "_handed_us",
        "_office",
        "_outcome",
        "_place",
        "_plan",
        "_replica",
        "_seat",
        "due",
    )

    def __init__(
        self,
        office: Express,
        visit: Visit,
        plan: Plan,
        seat: Seat[Replica],
        place: Place | None,
        handed_us: int,
        now: float,
    ) -> None:
        """It is handed on at `handed_us`, which is `now` by the monotonic clock; its seat is its place's, if any."""
        super().__init__(visit)
        self._office, self._plan, self._seat, self._place = office, plan, seat, place
        self._replica = seat.replica
        self._connection: UpstreamConnection | None = None
        self._handed_us = handed_us
        self._first_us: int | None = None
        self._outcome: Outcome | None = None
        self.due = now + plan.endpoint.profile.request_timeout
        """Until when the answer must be complete, by the monotonic clock."""

    def begin(self, connection: UpstreamConnection) -> None:
        """Record the request, and send it as soon as its record is written."""
        visit, books = self._visit, self._office.books
        self._connection = connection
        connection.reserve(self)
        visit.exchange.flow, visit.exchange.watcher = connection, self
        books.began(visit, self._plan.endpoint, self._replica, self._plan.facts, self._handed_us)
        if books.journal is None:
            self._send()
        else:
            books.journal.then(self._send)

    def begin_again(self, connection: UpstreamConnection) -> None:
        """Send the request over a new connection."""
        if self._outcome is not None:
            connection.close()
            return
        self._connection = self._visit.exchange.flow = connection
        connection.reserve(self)
        self._send()

    def _send(self) -> None:
        if self._connection is None or self._outcome is not None:
            return
        unbilled = self._office.books.unwritten(self._visit, self._plan.endpoint.profile)
        if unbilled is None:
            self._connection.send_quick(self._plan.head + tail_of(self._visit))
        elif self._stop(Outcome.LOST):
            self._office.answer(self._visit, self._given_place(), unbilled)

    # The answer

    def whole(self, head: ResponseHead, body: bytes) -> None:
        """Pass on an answer that came in one piece."""
        visit = self._visit
        known: Known | None = head.kept
        if known is None:
            known = head.kept = Known(head)
        if visit.committed or known.kind is Kind.EVENTS:
            self.head(head.status, head.headers, len(body))
            self.data(body)
            self.end()
            return
        if known.kind is Kind.WHOLE and known.counted is None:
            self._tap = AllAtOnce(visit.protocol, body)
        else:
            self._tap = known.tap(visit)
        self.status = visit.status = head.status
        self._began()
        self.bytes = len(body)
        visit.exchange.send_rendered(known.lines + passage_lines(visit), body)
        self._finish()

    def _began(self) -> None:
        super()._began()
        self._first_us = self._office.books.first_byte(self._visit, self._plan.endpoint, self._replica)

    # Ends

    def gone(self) -> None:
        """The client left."""
        if self._stop(Outcome.CLIENT_GONE):
            self._leave()

    def overruled(self, fault: PeerFault) -> None:
        """The server wants it to end."""
        if self._stop(Outcome.TIMED_OUT):
            self._office.answer(self._visit, self._given_place(), rejection_of(fault))

    def expire(self) -> None:
        """The answer took too long."""
        if self._stop(Outcome.TIMED_OUT):
            self._office.answer(self._visit, self._given_place(), too_late(self._plan.endpoint.profile.request_timeout))

    def lost(self, fault: UpstreamFault) -> None:
        """There will be no more."""
        self._connection = self._visit.exchange.flow = None
        if self._outcome is None and isinstance(fault, ResponseLost) and fault.reused and not self.status:
            # An idle connection that the replica closed just then: not its failure.
            self._office.renew(self, self._replica)
            return
        self.fault = fault
        if not self._settle(Outcome.LOST):
            return
        self._office.books.judge(self._plan.endpoint, self._replica, self)
        if self.status:
            self._office.answer(self._visit, self._given_place(), cut_off())
        else:
            self._office.forward(self._visit, self._plan, self._given_place())

    def _finish(self) -> None:
        """All is passed on."""
        if self._settle(Outcome.COMPLETED):
            self._office.books.judge(self._plan.endpoint, self._replica, self)
            self._leave()

    def _leave(self) -> None:
        if self._place is not None:
            self._place.leave()
        else:
            self._plan.endpoint.gate.give_back(self._seat)
        self._office.leave(self._visit)

    def _given_place(self) -> Place:
        """Return its place: of its own from now on where it went without one."""
        if self._place is None:
            self._place = self._office.holder.seated(self._visit, self._plan.endpoint, self._seat)
        return self._place

    def _stop(self, outcome: Outcome) -> bool:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        return self._settle(outcome)

    def _settle(self, outcome: Outcome) -> bool:
        if self._outcome is not None:
            return False
        self._outcome = outcome
        office, visit, endpoint = self._office, self._visit, self._plan.endpoint
        exchange = visit.exchange
        exchange.flow = exchange.watcher = None
        self._connection = None
        office.under_way.discard(self)
        ended_us = office.books.ended(visit, endpoint, 1, self, self._first_us, outcome)
        if outcome is Outcome.COMPLETED:
            endpoint.services.add(ended_us - self._handed_us)
        return True


class Express:
    """Hold and send requests; `leave` takes leave of a request, `answered` does work that may end in a refusal."""

    def __init__(
        self,
        books: Books,
        forwarder: Forwarder,
        holder: Holder,
        now: Callable[[], float],
        now_us: Callable[[], int],
        leave: Callable[[Visit], None],
        answered: Callable[[Visit, Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]],
    ) -> None:
        self.books, self.holder = books, holder
        self._forwarder, self._now, self._now_us = forwarder, now, now_us
        self.leave, self._answered = leave, answered
        self.under_way: set[Run] = set()
        self._renewing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """End answers that take longer than their endpoint allows, for ever."""
        while True:
            await asyncio.sleep(TICK)
            now = self._now()
            for run in [run for run in self.under_way if run.due <= now]:
                run.expire()

    def send(self, visit: Visit, plan: Plan) -> None:
        """Send a request that was admitted to a replica that has room, as soon as there is one."""
        seat = plan.endpoint.gate.pass_through(visit.affinity)
        if seat is not None:
            self._run(visit, plan, seat, None, visit.accepted_us, visit.started)
            return
        self.books.arrived(visit, plan.endpoint)
        Waiting(self, plan, self.holder.place(visit, plan.endpoint)).begin()

    def dispatch(self, visit: Visit, plan: Plan, place: Place) -> None:
        """Send a request that was held to the replica where it has a seat now."""
        now = self._now()
        visit.queued_ms = round((now - visit.started) * 1000)
        assert place.seat is not None, "a seat goes before a connection"
        self._run(visit, plan, place.seat, place, self._now_us(), now)

    def _run(self, visit: Visit, plan: Plan, seat: Seat[Replica], place: Place | None, now_us: int, now: float) -> None:
        connection = seat.replica.pool.take()
        if connection is None:
            self.books.arrived(visit, plan.endpoint)
            self.forward(visit, plan, place or self.holder.seated(visit, plan.endpoint, seat))
            return
        visit.attempts = 1
        run = Run(self, visit, plan, seat, place, now_us, now)
        self.under_way.add(run)
        run.begin(connection)

    # What becomes of runs

    def renew(self, run: Run, replica: Replica) -> None:
        """Give a run a new connection."""
        task = asyncio.get_running_loop().create_task(self._renew(run, replica))
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _renew(self, run: Run, replica: Replica) -> None:
        try:
            run.begin_again(await replica.pool.connect())
        except ConnectFailed as fault:
            run.lost(fault)

    def left(self, visit: Visit, place: Place) -> None:
        """Take leave of a request that was answered, or whose client is gone."""
        place.leave()
        self.leave(visit)

    def answer(self, visit: Visit, place: Place, rejection: Rejection) -> None:
        """Refuse a request, or end its answer, by a task."""

        async def refuse() -> None:
            raise rejection

        self._go_on(visit, place, refuse)

    def forward(self, visit: Visit, plan: Plan, place: Place) -> None:
        """Send a request by a task, which may make a connection, or wait for another replica."""
        self._go_on(visit, place, lambda: self._forwarder.forward(visit, plan, place))

    def _go_on(self, visit: Visit, place: Place, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Go on by a task; a client that is gone by now, or before the task begins, is waited for by nobody."""
        if visit.exchange.gone:
            self.left(visit, place)
            return
        task = visit.exchange.go_on_with(self._answered(visit, work))
        task.add_done_callback(lambda _: self.left(visit, place))
