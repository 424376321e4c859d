"""Follow one generating request through its stages, for the metrics and for TGI's timing headers."""

from __future__ import annotations

import time
from collections.abc import Sequence as Several
from dataclasses import dataclass

from zerotide_runtime.engine.request import Sequence
from zerotide_runtime.errors import GenerationFailed, NotReady, Overloaded, RequestError, TemplateError
from zerotide_runtime.server.telemetry import Telemetry


@dataclass(frozen=True)
class Timings:
    """Seconds that a request spent in its stages, and per generated token."""

    total: float
    validation: float
    queue: float
    inference: float
    per_token: float


def failure_label(error: RequestError) -> str:
    """Return TGI's word for what went wrong."""
    if isinstance(error, Overloaded):
        return "overloaded"
    if isinstance(error, TemplateError):
        return "template"
    return "generation" if isinstance(error, GenerationFailed | NotReady) else "validation"


class Account:
    """The stopwatch of one request; made when its handling begins."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._began = self._validated = time.monotonic()
        telemetry.requests.add()

    def validated(self, prompts: Several[Several[int]], max_new_tokens: int) -> None:
        """Note that the request is sound and goes to the engine."""
        self._validated = time.monotonic()
        self._telemetry.validation.observe(self._validated - self._began)
        for prompt in prompts:
            self._telemetry.input_length.observe(len(prompt))
        self._telemetry.max_new.observe(max_new_tokens)

    def failed(self, error: RequestError) -> None:
        """Note that the request got an error."""
        self._telemetry.failures.add(failure_label(error))

    def finished(self, sequences: list[Sequence]) -> Timings:
        """Note that the request got its whole answer; return its times."""
        now = time.monotonic()
        tokens = sum(len(sequence.answer) for sequence in sequences)
        started = min((s.started for s in sequences if s.started is not None), default=self._validated)
        inference = now - started
        timings = Timings(
            total=now - self._began,
            validation=self._validated - self._began,
            queue=max(0.0, started - self._validated),
            inference=inference,
            per_token=inference / max(1, tokens),
        )
        self._telemetry.successes.add()
        self._telemetry.duration.observe(timings.total)
        self._telemetry.queue.observe(timings.queue)
        self._telemetry.inference.observe(timings.inference)
        self._telemetry.per_token.observe(timings.per_token)
        self._telemetry.generated.observe(tokens)
        for sequence in sequences:
            self._telemetry.skipped.observe(sequence.recalled or 0)
        return timings
