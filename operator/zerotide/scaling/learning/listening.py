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
        self._unsure_us = 0
        """Up to when somebody may have asked unheard: a silence that began before is not known in whole."""

    def observe(self, load: Load, now_us: int) -> None:
        """Take in the load as it is now; a clock that was set back teaches nothing."""
        if now_us > self._seen_us:
            self._waited_us += self._held * (now_us - self._seen_us)
        first, self._held, self._seen_us = not self._seen_us, load.held, now_us
        if first or load.missing:
            self._unsure_us = max(self._unsure_us, now_us)
        if load.missing:
            self._quiet_us = None
            self.learner.lost()
            return
        if self._quiet_us is not None and load.last_request_us > self._quiet_us:
            self.learner.silence((load.last_request_us - self._quiet_us) / SECOND)
            self._waited_us = 0
        known = not load.active and load.last_request_us >= self._unsure_us
        self._quiet_us = (load.last_request_us or None) if known else None

    def stepped(self, step_us: int) -> None:
        """Move what is being heard along with a clock that was set."""
        self._quiet_us = None if self._quiet_us is None else self._quiet_us + step_us
        if self._seen_us:
            self._seen_us, self._unsure_us = self._seen_us + step_us, self._unsure_us + step_us

    def woke(self) -> None:
        """Take in that a wake is over: all that was held since the silence before it has waited for it.

        One of which nobody was heard waiting was over before this began to listen, and teaches nothing.
        """
        if self._waited_us:
            self.learner.woke(self._waited_us / SECOND)
        self._waited_us = 0
