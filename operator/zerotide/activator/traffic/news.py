"""What a stream that waits is told: heartbeats, and to those who ask for it each phase of the wake.

Both are comments of server-sent events. An event with a name of its own would be more at home there, but the clients
that people use take any event with data for a piece of the answer, and fail; comments they all pass over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.traffic.replies import STREAM_HEADERS, identity
from zerotide.activator.traffic.visit import Visit
from zerotide.api.conditions import State
from zerotide.api.scalars import SECOND

if TYPE_CHECKING:
    from zerotide.activator.traffic.holder import Place

HEADER = b"x-zerotide-events"
_PHASES = "phases"


def asks_for_phases(value: str) -> bool:
    """Tell whether X-Zerotide-Events asks for phases; words that are not known ask for nothing."""
    return any(word.strip().lower() == _PHASES for word in value.split(","))


class _Audience:
    """Who follows one endpoint's phases, and which one they know of; a dict keeps them in order."""

    __slots__ = ("places", "state")

    def __init__(self, state: str) -> None:
        self.state = state
        self.places: dict[Place, None] = {}


class News:
    """Tell streams that wait how it stands; the first thing told commits each to status 200."""

    def __init__(self, now: Callable[[], float], now_us: Callable[[], int]) -> None:
        self._now, self._now_us = now, now_us
        self._audiences: dict[Endpoint, _Audience] = {}

    def beat(self, place: Place) -> None:
        """Show one that it is still held."""
        visit, endpoint = place.visit, place.endpoint
        words = [f": zerotide state={endpoint.profile.state}", f"elapsed={round(self._now() - visit.started)}s"]
        ready_in = endpoint.ready_in_us(self._now_us())
        if ready_in is not None:
            words.append(f"ready-in={math.ceil(ready_in / SECOND)}s")
        self._tell(visit, " ".join(words))

    def follow(self, place: Place) -> None:
        """Tell one of each phase from now on, of this one at once."""
        endpoint = place.endpoint
        audience = self._audiences.setdefault(endpoint, _Audience(endpoint.profile.state))
        audience.places[place] = None
        self._phase(place, endpoint.profile.state, held=True)

    def changed(self, endpoint: Endpoint) -> None:
        """Tell those who follow an endpoint of its new phase, where it has one."""
        audience, state = self._audiences.get(endpoint), endpoint.profile.state
        if audience is None or audience.state == state:
            return
        audience.state = state
        for place in list(audience.places):
            self._phase(place, state, held=True)

    def released(self, place: Place) -> None:
        """Tell one that it goes to a replica, and of no more phases."""
        self.forget(place)
        self._phase(place, State.AWAKE.value, held=False)

    def forget(self, place: Place) -> None:
        """Tell one of no more phases; twice is harmless."""
        audience = self._audiences.get(place.endpoint)
        if audience is not None:
            audience.places.pop(place, None)
            if not audience.places:
                del self._audiences[place.endpoint]

    def _phase(self, place: Place, state: str, *, held: bool) -> None:
        elapsed = self._now() - place.visit.started
        content: dict[str, Any] = {"state": state, "held": held, "elapsedMs": round(elapsed * 1000)}
        ready_in = place.endpoint.ready_in_us(self._now_us()) if held else None
        if ready_in is not None:
            content["readyInMs"] = math.ceil(ready_in * 1000 / SECOND)
        self._tell(place.visit, f": zerotide.phase {json.dumps(content, separators=(',', ':'))}")

    def _tell(self, visit: Visit, comment: str) -> None:
        if not visit.committed:
            visit.committed = visit.streaming = True
            cold = (b"x-zerotide-cold-start", b"true" if visit.cold else b"false")
            visit.exchange.start(200, [*STREAM_HEADERS, *identity(visit), cold])
        visit.exchange.write(comment.encode() + b"\n\n")
