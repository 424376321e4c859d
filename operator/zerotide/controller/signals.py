"""What was heard of demand since: windows of what was wanted, and wakes that have finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from zerotide.api.demand import Wake
from zerotide.api.endpoint import InferenceEndpoint, LastWake
from zerotide.api.scalars import parse_duration, parse_time
from zerotide.controller.learners import Learners
from zerotide.controller.prewarmers import Prewarmers
from zerotide.controller.streams import Streams
from zerotide.reconcile import wakes
from zerotide.reconcile.engines.said import Said
from zerotide.reconcile.observed import Told
from zerotide.reconcile.wakes import Sightings, WakeStamps
from zerotide.scaling.arrivals import Arrivals
from zerotide.scaling.backlog import Backlog, backlog
from zerotide.scaling.decide import Why, wanted
from zerotide.scaling.demand import Load, Serving, View, load_of
from zerotide.scaling.learning.explain import Learned
from zerotide.scaling.policy import Policy
from zerotide.scaling.prewarm.prewarmed import Prewarmed
from zerotide.scaling.service import Service
from zerotide.scaling.window import Window

_NOBODY = Serving()
_REQUESTED = {Why.REQUEST.value, Why.DEMAND.value}


class Signals:
    """Per endpoint: its load, the window behind it, and its newest finished wake until it is in the status."""

    def __init__(
        self,
        streams: Streams,
        learners: Learners,
        prewarmers: Prewarmers,
        engines: Callable[[str], Said] = lambda key: Said(),
    ) -> None:
        self._streams, self._learners, self._prewarmers = streams, learners, prewarmers
        self._engines = engines
        self._windows: dict[str, Window] = {}
        self._last: dict[str, tuple[bool, bool, int | None]] = {}
        self._finished: dict[str, LastWake] = {}
        self._told: dict[str, Told] = {}
        self._called: dict[str, int] = {}
        self._causes: dict[str, str] = {}
        self._arrivals: dict[str, Arrivals] = {}
        self._services: dict[str, Service] = {}
        self._serving: dict[str, Serving] = {}
        self._before: dict[str, tuple[str, Load]] = {}
        """What was told of each endpoint last, with its uid."""

    def load(self, endpoint: InferenceEndpoint, now_us: int, serving: Serving | None = None) -> Load:
        """Return what the endpoint is asked for now; the same replicas serve as last time if it is not told."""
        key = endpoint.key
        if serving is not None and serving.count:
            self._serving[key] = serving
        elif serving is not None:
            self._serving.pop(key, None)
        load = self._told_of(endpoint, now_us)
        if endpoint.spec.scaling.asks_engines:
            said = self._engines(key)
            load = replace(load, queued=said.waiting or 0, tokens=said.tokens or 0)
        # Whoever never has two replicas has no use for more, and whoever was never called has nothing to learn from.
        if endpoint.spec.scaling.max_replicas == 1 or not load.arrivals:
            self._arrivals.pop(key, None)
            return load
        arrivals = self._arrivals.get(key) or Arrivals.begun(now_us, load.arrivals - load.held - load.in_flight)
        arrivals = self._arrivals[key] = arrivals.add(now_us, load.arrivals, load.held)
        service = self._services[key] = self._services.get(key, Service()).add(now_us, load)
        if endpoint.spec.scaling.queue_delay is not None:
            load = replace(load, wait_us=arrivals.wait_us(load.held, now_us))
        return replace(load, backlog=self._backlog(endpoint, arrivals.came(now_us), service.time_us, now_us))

    def _told_of(self, endpoint: InferenceEndpoint, now_us: int) -> Load:
        key, uid = endpoint.key, endpoint.metadata.uid
        load, known = load_of(key, uid, self._streams.views, self._streams.names), self._before.get(key)
        before = known[1] if known is not None and known[0] == uid else _remembered(endpoint, now_us)
        load = load.after(before, now_us)
        if load.last_request_us or load.active:
            self._before[key] = uid, load
        return load

    def _backlog(self, endpoint: InferenceEndpoint, came: int, service_us: int | None, now_us: int) -> Backlog | None:
        known, patience_us = endpoint.status.cold_starts, endpoint.spec.hold.busy_timeout.us
        cold_us = parse_duration(known.p50) if known and known.p50 else 0
        since_us = self._serving.get(endpoint.key, _NOBODY).since_us
        return backlog(came, service_us, cold_us, patience_us, since_us, now_us)

    def window(self, endpoint: InferenceEndpoint, load: Load, now_us: int) -> Window:
        """Note what the load wants and return the window with it."""
        policy, key = Policy.of(endpoint.spec), endpoint.key
        wants = wanted(load, policy, self._serving.get(key, _NOBODY).count)
        window = self._windows.get(key, Window()).add(now_us, wants, policy.keep_us)
        self._windows[key] = window
        return window

    def matters(self, endpoint: InferenceEndpoint, now_us: int, heard_us: int = 0) -> bool:
        """Tell whether demand changed in a way that may change the decision; `heard_us` is when the news came."""
        load = self.load(endpoint, now_us)
        self._learners.observe(endpoint, load, now_us)
        # What still ends on a replica that was taken away does not hide who waits for the next one.
        called = load.held > 0 and not endpoint.status.desired_replicas
        state = (load.active, called, self.window(endpoint, load, now_us).latest)
        before = self._last.get(endpoint.key, (False, False, None))
        self._last[endpoint.key] = state
        if (load.active and not before[0]) or (called and not before[1]):
            self._called[endpoint.key] = heard_us or now_us
        return before != state

    def held(self, key: str, uid: str, most: int) -> bool:
        """Tell whether requests of an endpoint are held, and no more than so many of them in all."""
        load = load_of(key, uid, self._streams.views, ())
        return 0 < load.held <= most - load.in_flight

    def calls(self, key: str, uid: str, most: int, heard_us: int) -> bool:
        """Note that a sleeping endpoint is called, as was heard just now, if no more than so many requests do."""
        if not self.held(key, uid, most):
            return False
        before = self._last.get(key, (False, False, None))
        if not before[1]:
            self._called[key] = heard_us
        self._last[key] = True, True, before[2]
        return True

    def called_us(self, key: str) -> int | None:
        """Return when it was heard that an endpoint is called, after it was not; None before that."""
        return self._called.get(key)

    def finish(self, endpoint: InferenceEndpoint, view: View, wake: Wake, seen: Sightings) -> LastWake | None:
        """Record a finished wake; None if it, or a newer one, is known, from this activator or from another."""
        known = self._finished.get(endpoint.key) or endpoint.status.last_wake
        # An activator tells what it told before to whoever follows it anew, and of one wake each tells.
        if known is not None and (known.id == wake.id or view.here(wake.stamps.demand_us) < parse_time(known.time)):
            return None
        record = wakes.record(wake.id, self.cause(endpoint), _stamps(view, wake), seen, wake.runtime)
        self._finished[endpoint.key] = record
        if wake.weights is not None:
            self._told[endpoint.key] = Told(endpoint.spec.model.uri, wake.weights)
        self._learners.woke(endpoint)
        return record

    def started(self, key: str, why: Why) -> None:
        """Note why an endpoint that slept starts; its status may tell later, even after the start is over."""
        self._causes[key] = why.value

    def cause(self, endpoint: InferenceEndpoint) -> str:
        """Return what asked for the newest start of an endpoint, not for more replicas since."""
        known = self._causes.get(endpoint.key)
        if known is None:
            decisions = endpoint.status.decisions
            starts = [each.reason for each in decisions if not each.from_replicas]
            # Where the newest is a sleep, the start is not written yet: somebody who asked waits for it.
            known = starts[0] if starts and decisions[0].to_replicas else Why.REQUEST.value
        return Why.REQUEST.value if known in _REQUESTED else known

    def learned(self, endpoint: InferenceEndpoint, load: Load, now_us: int) -> Learned | None:
        """Return the idle timeout that was learned until now, None where the spec's own holds."""
        self._learners.observe(endpoint, load, now_us)
        return self._learners.idle(endpoint, now_us)

    def prewarmed(
        self, endpoint: InferenceEndpoint, load: Load, now_us: int, learned: Learned | None = None
    ) -> Prewarmed | None:
        """Return what the endpoint's habits foretell, None where prewarming is disabled.

        `learned` is the idle timeout that holds in place of the spec's: whoever comes in vain waits for that one.
        """
        self._prewarmers.observe(endpoint, load, now_us)
        return self._prewarmers.look(endpoint, load, now_us, learned.timeout_us if learned is not None else 0)

    def stepped(self, step_us: int) -> None:
        """Move what was heard along with a clock that was set; what cannot be moved begins anew."""
        self._windows = {key: window.moved(step_us) for key, window in self._windows.items()}
        self._before = {key: (uid, load.moved(step_us)) for key, (uid, load) in self._before.items()}
        self._called = {key: time_us + step_us for key, time_us in self._called.items()}
        self._arrivals.clear()
        self._services.clear()
        self._learners.stepped(step_us)
        self._prewarmers.stepped(step_us)

    def finished(self, key: str) -> LastWake | None:
        """Return the newest finished wake that may not be in the status yet."""
        return self._finished.get(key)

    def told(self, key: str) -> Told | None:
        """Return what a runtime told of its model that may not be in the status yet."""
        return self._told.get(key)

    def forget(self, key: str) -> None:
        """Forget an endpoint that is gone."""
        tables = (
            self._told,
            self._windows,
            self._last,
            self._finished,
            self._called,
            self._causes,
            self._arrivals,
            self._services,
            self._serving,
            self._before,
        )
        for table in tables:
            table.pop(key, None)
        self._learners.forget(key)
        self._prewarmers.forget(key)


def _remembered(endpoint: InferenceEndpoint, now_us: int) -> Load:
    """Return what the operator before wrote down, which may be a minute old; nothing that is yet to come."""
    known = endpoint.status.last_activity_time
    activity_us = parse_time(known) if known else 0
    return Load(last_activity_us=activity_us if activity_us <= now_us else 0)


def _stamps(view: View, wake: Wake) -> WakeStamps:
    stamps = wake.stamps

    def here(their_us: int | None) -> int | None:
        return None if their_us is None else view.here(their_us)

    return WakeStamps(
        demand_us=view.here(stamps.demand_us),
        first_byte_us=view.here(stamps.first_byte_us),
        address_us=here(stamps.address_us),
        connect_us=here(stamps.connect_us),
        ready_us=here(stamps.ready_us),
    )
