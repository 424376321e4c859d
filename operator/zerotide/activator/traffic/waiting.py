"""A warm request's fellow that has to wait: held without a task, since there may be many thousands of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zerotide.activator.failures import PeerFault
from zerotide.activator.traffic.holder import Place
from zerotide.activator.traffic.readings import Plan
from zerotide.activator.traffic.replies import rejection_of
from zerotide.api.errors import Rejection

if TYPE_CHECKING:
    from zerotide.activator.traffic.express import Express


class Waiting:
    """One request that is held; watches its client until the gate has decided."""

    __slots__ = ("_office", "_place", "_plan")

    def __init__(self, office: Express, plan: Plan, place: Place) -> None:
        self._office, self._plan, self._place = office, plan, place

    def begin(self) -> None:
        """Come to the gate, and wait where that does not decide at once."""
        place, holder = self._place, self._office.holder
        holder.come(place)
        if place.decided:
            self._go_on()
        else:
            place.visit.exchange.watcher = self
            holder.hold(place, self._decided)

    def gone(self) -> None:
        """The client left."""
        self._office.holder.release(self._place)
        self._office.left(self._place.visit, self._place)

    def overruled(self, fault: PeerFault) -> None:
        """The server wants it to end."""
        visit, place = self._place.visit, self._place
        visit.exchange.watcher = None
        self._office.holder.release(place)
        place.leave()
        self._office.answer(visit, place, rejection_of(fault))

    def _decided(self) -> None:
        # Not at once: the gate is still at work, and what follows may come back to it.
        asyncio.get_running_loop().call_soon(self._released)

    def _released(self) -> None:
        """Go on, unless it ended meanwhile."""
        exchange = self._place.visit.exchange
        if exchange.watcher is self:
            exchange.watcher = None
            self._office.holder.release(self._place)
            self._go_on()

    def _go_on(self) -> None:
        place = self._place
        try:
            self._office.holder.outcome(place)
        except Rejection as rejection:
            self._office.answer(place.visit, place, rejection)
            return
        self._office.dispatch(place.visit, self._plan, place)
