"""Hear an endpoint's silences, and how long requests waited for its wakes, from what the activators tell.

Whatever is uncertain teaches nothing: a silence during which a report was missing, or the operator was not there.
"""

from __future__ import annotations

from zerotide.api.scalars import SECOND
from zerotide.scaling.demand import Load
from zerotide.scaling.learning.learner import Learner


class Listening:
    """Turn one endpoint's loads, each as it changes, into lessons for its learner."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._quiet_us: int | None = None
        self._held, self._seen_us, self._waited_us = 0, 0, 0

    def observe(self, load: Load, now_us: int) -> None:
        """Take in the load as it is now; a clock that was set back teaches nothing."""
        if now_us > self._seen_us:
            self._waited_us += self._held * (now_us - self._seen_us)
        self._held, self._seen_us = load.held, now_us
        if load.missing:
            self._quiet_us = None
            self.learner.lost()
            return
        if self._quiet_us is not None and load.last_request_us > self._quiet_us:
            self.learner.silence((load.last_request_us - self._quiet_us) / SECOND)
            self._waited_us = 0
        self._quiet_us = None if load.active else load.last_request_us or None

    def woke(self) -> None:
        """Take in that a wake is over: all that was held since the silence before it has waited for it."""
        self.learner.woke(self._waited_us / SECOND)
        self._waited_us = 0
