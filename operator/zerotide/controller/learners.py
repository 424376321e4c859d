"""The learners of endpoints with `idle.policy: Learned`: fed by demand, kept in the status over a restart."""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.api.endpoint import InferenceEndpoint, Status
from zerotide.api.scalars import MINUTE, SECOND, parse_duration
from zerotide.scaling.demand import Load
from zerotide.scaling.learning.explain import Learned, learned
from zerotide.scaling.learning.learner import Learner, Waiting
from zerotide.scaling.learning.listening import Listening
from zerotide.scaling.learning.memory import read
from zerotide.scaling.learning.prior import Prior, fit

PRIOR_US = 10 * MINUTE
"""How long what other endpoints say of a new one is not asked for again."""
UNKNOWN_COLD_S = 30.0
"""What a cold start is taken for before the first one was measured."""


@dataclass(slots=True)
class Student:
    """One endpoint that is learned about, known by its uid."""

    uid: str
    listening: Listening


class Learners:
    """Per endpoint a learner; `worth` is how many idle seconds of a replica one second of a request's waiting is."""

    def __init__(self, worth: float) -> None:
        self._worth = worth
        self._students: dict[str, Student] = {}
        self._prior, self._prior_until_us = Prior(), 0

    def observe(self, endpoint: InferenceEndpoint, load: Load, now_us: int) -> None:
        """Learn from the load as it is now."""
        student = self._student(endpoint)
        if student is not None:
            student.listening.observe(load, now_us)

    def woke(self, endpoint: InferenceEndpoint) -> None:
        """Learn from a wake that has finished."""
        student = self._student(endpoint)
        if student is not None:
            student.listening.woke()

    def idle(self, endpoint: InferenceEndpoint, now_us: int) -> Learned | None:
        """Return the learned timeout, None where the spec's own holds."""
        student = self._student(endpoint)
        if student is None:
            return None
        learner = student.listening.learner
        learner.price(self._population(now_us), cold_s(endpoint.status), self._worth)
        return learned(learner, endpoint.spec.scaling.idle.timeout.us)

    def stepped(self, step_us: int) -> None:
        """Move what is being heard along with a clock that was set: nobody was silent, or waited, for as long."""
        for student in self._students.values():
            student.listening.stepped(step_us)

    def forget(self, key: str) -> None:
        """Forget an endpoint that is gone."""
        self._students.pop(key, None)

    def _student(self, endpoint: InferenceEndpoint) -> Student | None:
        key, uid = endpoint.key, endpoint.metadata.uid
        if endpoint.spec.scaling.idle.policy != "Learned":
            self._students.pop(key, None)
            return None
        student = self._students.get(key)
        if student is None or student.uid != uid:
            student = Student(uid, Listening(_remembered(endpoint.status, self._prior, self._worth)))
            self._students[key] = student
        return student

    def _population(self, now_us: int) -> Prior:
        if now_us >= self._prior_until_us:
            known = [student.listening.learner for student in self._students.values()]
            waiting = [learner.waiting.mean for learner in known if learner.waiting.wakes]
            self._prior = fit([learner.gaps for learner in known], waiting)
            self._prior_until_us = now_us + PRIOR_US
        return self._prior


def cold_s(status: Status) -> float:
    """Return how long a cold start takes: the median of those that were measured last."""
    known = status.cold_starts.p50 if status.cold_starts else None
    return parse_duration(known) / SECOND if known else UNKNOWN_COLD_S


def _remembered(status: Status, prior: Prior, worth: float) -> Learner:
    known = status.idle
    if known is None:
        return Learner(prior, cold_s(status), worth)
    waiting = Waiting(max(float(known.held_per_wake), 1.0), known.wakes)
    gaps, after_wakes = read(known.history), read(known.history_after_wakes)
    return Learner(prior, cold_s(status), worth, gaps=gaps, after_wakes=after_wakes, waiting=waiting)
