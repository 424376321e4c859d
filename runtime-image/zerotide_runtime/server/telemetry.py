"""What this server counts: TGI's metrics under TGI's names, and the stages of the start."""

from __future__ import annotations

from collections.abc import Callable

from zerotide_runtime import __version__
from zerotide_runtime.server.metrics import COUNT_BUCKETS, Counter, Gauge, Histogram, Metric, render
from zerotide_runtime.startup import Startup


class Telemetry:
    """All metrics of one process; everything is called on the event loop's thread."""

    def __init__(self, startup: Startup, queue_sizes: Callable[[], tuple[int, int]]) -> None:
        self.requests = Counter("tgi_request_count")
        self.successes = Counter("tgi_request_success")
        self.failures = Counter("tgi_request_failure", "err")
        self.cancellations = Counter("zerotide_runtime_requests_cancelled")
        self.duration = Histogram("tgi_request_duration")
        self.validation = Histogram("tgi_request_validation_duration")
        self.queue = Histogram("tgi_request_queue_duration")
        self.inference = Histogram("tgi_request_inference_duration")
        self.per_token = Histogram("tgi_request_mean_time_per_token_duration")
        self.input_length = Histogram("tgi_request_input_length", buckets=COUNT_BUCKETS)
        self.generated = Histogram("tgi_request_generated_tokens", buckets=COUNT_BUCKETS)
        self.max_new = Histogram("tgi_request_max_new_tokens", buckets=COUNT_BUCKETS)
        self.batch_count = Counter("tgi_batch_inference_count", "method")
        self.batch_success = Counter("tgi_batch_inference_success", "method")
        self.batch_duration = Histogram("tgi_batch_inference_duration", "method")
        self.batch_size = Histogram("tgi_batch_next_size", buckets=COUNT_BUCKETS)
        queue = Gauge("tgi_queue_size", lambda: [((), queue_sizes()[0])])
        running = Gauge("tgi_batch_current_size", lambda: [((), queue_sizes()[1])])
        build = Gauge("zerotide_build_info", lambda: [((("component", "runtime"), ("version", __version__)), 1)])
        stages = Gauge(
            "zerotide_runtime_start_seconds",
            lambda: [((("stage", name),), round(ms / 1000, 6)) for name, ms in startup.stages().items()],
        )
        own = [metric for metric in vars(self).values() if isinstance(metric, Counter | Histogram)]
        self._metrics: list[Metric] = [*own, queue, running, stages, build]

    def stepped(self, kind: str, rows: int, seconds: float) -> None:
        """Count one forward pass."""
        self.batch_count.add(kind)
        self.batch_success.add(kind)
        self.batch_duration.observe(seconds, kind)
        self.batch_size.observe(rows)

    def page(self) -> bytes:
        """Return the metrics page."""
        return render(self._metrics)
