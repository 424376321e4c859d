"""The operator's metrics: one registry, labels `namespace` and `inference_endpoint`, current states only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from zerotide import __version__
from zerotide.api.conditions import State
from zerotide.api.endpoint import InferenceEndpoint, LastWake
from zerotide.api.names import COMPONENT_OPERATOR
from zerotide.api.scalars import SECOND, parse_duration
from zerotide.reconcile.observed import Observed
from zerotide.reconcile.pods import Stage
from zerotide.scaling.decide import Why

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS = tuple(0.01 * 2**k for k in range(17))
_FINE = tuple(0.0001 * 2**k for k in range(17))
_LABELS = ("namespace", "inference_endpoint")


class Metrics:
    """Everything that the operator counts."""

    def __init__(self, max_endpoints: int = 1000) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._states = _States(max_endpoints)
        self.registry.register(self._states)
        self._wakes = Counter(
            "zerotide_wakes", "Wakes that ended, by cause and outcome.", ["cause", "outcome"], registry=self.registry
        )
        self._cold_starts = Histogram(
            "zerotide_cold_start_seconds", "Stages of wakes.", ["stage"], buckets=BUCKETS, registry=self.registry
        )
        self._decisions = Counter(
            "zerotide_decisions", "Changes of replicas, by reason.", ["reason"], registry=self.registry
        )
        self._wake_decisions = Histogram(
            "zerotide_wake_decision_seconds",
            "From the news that a sleeping endpoint is needed to the write of its replicas.",
            buckets=_FINE,
            registry=self.registry,
        )
        self._pings = Counter("zerotide_pings", "Pings of replicas, by outcome.", ["outcome"], registry=self.registry)
        self._duration = Histogram(
            "zerotide_reconcile_duration_seconds", "Time of one round.", buckets=_FINE, registry=self.registry
        )
        self.depth = Gauge("zerotide_workqueue_depth", "Endpoints that wait to be worked on.", registry=self.registry)
        self.leading = Gauge("zerotide_leading", "Whether this process writes.", registry=self.registry)
        build = Gauge(
            "zerotide_build_info", "Version of this process.", ["version", "component"], registry=self.registry
        )
        build.labels(__version__, COMPONENT_OPERATOR).set(1)

    def text(self) -> bytes:
        """Return everything in the OpenMetrics format."""
        return bytes(generate_latest(self.registry))  # type: ignore[no-untyped-call]

    def reconciled(self, seconds: float) -> None:
        """Count a round."""
        self._duration.observe(seconds)

    def decided(self, why: Why) -> None:
        """Count a change of replicas."""
        self._decisions.labels(why.value).inc()

    def wake_decided(self, seconds: float) -> None:
        """Count a wake that was decided, so long after the news that called for it."""
        self._wake_decisions.observe(seconds)

    def wake_failed(self, cause: str) -> None:
        """Count a wake that was given up."""
        self._wakes.labels(cause, "failed").inc()

    def pinged(self, answered: bool) -> None:
        """Count a ping."""
        self._pings.labels("answered" if answered else "failed").inc()

    def wake_served(self, wake: LastWake) -> None:
        """Count a wake whose first request was answered, with its stages."""
        self._wakes.labels(wake.cause, "served").inc()
        for stage in wake.stages:
            self._cold_starts.labels(stage.name).observe(parse_duration(stage.duration) / SECOND)
        self._cold_starts.labels("total").observe(wake.total_us / SECOND)

    def state(self, endpoint: InferenceEndpoint, state: State, desired: int, observed: Observed) -> None:
        """Note the present state and replicas of an endpoint."""
        pods = [pod for pod in observed.pods if pod.counts]
        ready = sum(pod.stage is Stage.READY for pod in pods)
        counts = {"desired": desired, "running": len(pods), "ready": ready}
        self._states.set(endpoint.metadata.namespace, endpoint.metadata.name, state.value, counts)

    def forget(self, key: str) -> None:
        """Drop the series of an endpoint that is gone."""
        self._states.forget(key)


class _States(Collector):
    """States and replicas by endpoint; those beyond the limit are added up as `_other`, who sleeps first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, tuple[str, Mapping[str, int]]] = {}

    def set(self, namespace: str, name: str, state: str, replicas: Mapping[str, int]) -> None:
        self._known[f"{namespace}/{name}"] = (state, replicas)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families as they are now."""
        states = GaugeMetricFamily("zerotide_endpoint_state", "State of an endpoint.", labels=[*_LABELS, "state"])
        replicas = GaugeMetricFamily("zerotide_replicas", "Replicas of an endpoint.", labels=[*_LABELS, "kind"])
        other_states: dict[str, int] = {}
        other_replicas: dict[str, int] = {}
        # Who sleeps is the last to have a series: what serves, starts or fails is looked at by name.
        known = sorted(self._known.items(), key=lambda item: item[1][0] == State.ASLEEP.value)
        for index, (key, (state, counts)) in enumerate(known):
            namespace, _, name = key.partition("/")
            if index < self._limit:
                states.add_metric([namespace, name, state], 1)
                for kind, count in counts.items():
                    replicas.add_metric([namespace, name, kind], count)
                continue
            other_states[state] = other_states.get(state, 0) + 1
            for kind, count in counts.items():
                other_replicas[kind] = other_replicas.get(kind, 0) + count
        for state, total in other_states.items():
            states.add_metric(["_other", "_other", state], total)
        for kind, total in other_replicas.items():
            replicas.add_metric(["_other", "_other", kind], total)
        yield states
        yield replicas
