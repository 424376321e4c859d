"""What this server counts: TGI's metrics under TGI's names, and the stages of the start."""

from __future__ import annotations

from collections.abc import Callable

from zerotide_runtime import __version__
from zerotide_runtime.server.metrics import COUNT_BUCKETS, Counter, Gauge, Histogram, Metric, render
from zerotide_runtime.startup import Startup


class Telemetry:
    """All metrics of one process; everything is called on the event loop's thread, `batch_decoding` aside.

    Of TGI's stages two cost nothing here, since a sequence joins a batch and leaves it without a copy of the others:
    the histograms of filtering and of concatenation are there for dashboards, and stay empty.
    """

    def __init__(
        self,
        startup: Startup,
        queue_sizes: Callable[[], tuple[int, int]],
        tokens: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
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
        self.skipped = Histogram("tgi_request_skipped_tokens", buckets=COUNT_BUCKETS)
        self.batch_count = Counter("tgi_batch_inference_count", "method")
        self.batch_success = Counter("tgi_batch_inference_success", "method")
        self.batch_failure = Counter("tgi_batch_inference_failure", "method")
        self.batch_concat = Counter("tgi_batch_concat", "reason")
        self.batch_duration = Histogram("tgi_batch_inference_duration", "method")
        self.batch_forward = Histogram("tgi_batch_forward_duration", "method")
        self.batch_decoding = Histogram("tgi_batch_decode_duration", "method")
        self.batch_filter = Histogram("tgi_batch_filter_duration")
        self.batch_concatenation = Histogram("tgi_batch_concat_duration")
        self.batch_size = Histogram("tgi_batch_next_size", buckets=COUNT_BUCKETS)
        queue = Gauge("tgi_queue_size", lambda: [((), queue_sizes()[0])])
        running = Gauge("tgi_batch_current_size", lambda: [((), queue_sizes()[1])])
        committed = Gauge("tgi_batch_current_max_tokens", lambda: [((), tokens()[0])])
        most = Gauge("tgi_batch_max_total_tokens", lambda: [((), tokens()[1])])
        build = Gauge("zerotide_build_info", lambda: [((("component", "runtime"), ("version", __version__)), 1)])
        stages = Gauge(
            "zerotide_runtime_start_seconds",
            lambda: [((("stage", name),), round(ms / 1000, 6)) for name, ms in startup.stages().items()],
        )
        own = [metric for metric in vars(self).values() if isinstance(metric, Counter | Histogram)]
        self._metrics: list[Metric] = [*own, queue, running, committed, most, stages, build]

    def stepped(self, kind: str, rows: int, seconds: float, joined: bool) -> None:
        """Count one forward pass; `joined` tells that a sequence went from its prompt into a running batch."""
        self.batch_count.add(kind)
        self.batch_success.add(kind)
        self.batch_duration.observe(seconds, kind)
        self.batch_forward.observe(seconds, kind)
        self.batch_size.observe(rows)
        if joined:
            self.batch_concat.add("prefilled")

    def broke(self, kind: str) -> None:
        """Count one forward pass that failed."""
        self.batch_count.add(kind)
        self.batch_failure.add(kind)

    def page(self) -> bytes:
        """Return the metrics page."""
        return render(self._metrics)
