"""What the operator makes of demand: lines that are waited in, calls that are heard, activators that say nothing."""

from __future__ import annotations

from typing import Any

from tests.reconcile.helpers import NOW, endpoint
from zerotide.api.demand import Delta, Demand, Snapshot, Stamps, Wake, Weights
from zerotide.api.scalars import SECOND, format_micro_time, format_time
from zerotide.controller.learners import Learners
from zerotide.controller.prewarmers import Prewarmers
from zerotide.controller.signals import Signals
from zerotide.reconcile.engines.said import Said
from zerotide.reconcile.observed import Told
from zerotide.reconcile.wakes import Sightings
from zerotide.scaling.decide import Why
from zerotide.scaling.demand import Serving, View

QUEUE = {"scaling": {"maxReplicas": 9, "concurrency": {"target": 8}, "queueDelay": {"target": "500ms"}}}


class Heard:
    """Streams as far as signals read them."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.views: dict[str, View] = {}

    def says(self, name: str, now_us: int, *, held: int = 0, in_flight: int = 0, arrivals: int = 0) -> None:
        """Take in what an activator says; its clock is ours."""
        if name not in self.views:
            self.views[name] = View()
            self.views[name].apply(Snapshot(activator=name, started_at_us=NOW, at_us=now_us), now_us)
        demand = Demand(
            endpoint="demo/a", uid="u1", held=held, in_flight=in_flight, arrivals=arrivals, last_activity_us=now_us
        )
        self.views[name].apply(Delta(at_us=now_us, demand=demand), now_us)


def signals(*names: str) -> tuple[Signals, Heard]:
    """Return signals of some activators."""
    heard: Any = Heard(*names)
    return Signals(heard, Learners(7.0), Prewarmers(7.0)), heard


def test_a_line_that_lasts_asks_for_more_than_its_requests_do() -> None:
    """By the replicas that serve; once it is gone, nothing is asked for any more."""
    one, heard = signals("x")
    busy = endpoint(QUEUE)
    for second in range(20):
        heard.says("x", NOW + second * SECOND, held=2, in_flight=6, arrivals=second)
        one.window(busy, one.load(busy, NOW + second * SECOND, Serving(3, NOW)), NOW + second * SECOND)
    now = NOW + 20 * SECOND
    heard.says("x", now, held=2, in_flight=6, arrivals=20)
    load = one.load(busy, now, Serving(3, NOW))
    window = one.window(busy, load, now)
    assert load.wait_us == 2 * SECOND and window.latest == 6, "twice as many as serve"
    assert one.window(busy, load, now).latest == 6, "as many serve as did"
    plain = endpoint({"scaling": {"maxReplicas": 9}})
    assert one.load(plain, now).wait_us == 0 and one.window(plain, one.load(plain, now), now).latest == 1
    heard.says("x", now + SECOND, in_flight=6, arrivals=22)
    load = one.load(busy, now + SECOND)
    assert load.wait_us == 0 and one.window(busy, load, now + SECOND).latest == 1


def test_one_that_says_nothing_takes_nothing_from_the_others() -> None:
    """Nor does its return with smaller counts make a wait of it."""
    one, heard = signals("x", "y")
    busy = endpoint(QUEUE)
    for second in range(10):
        heard.says("x", NOW + second * SECOND, in_flight=20, arrivals=100 + second)
        heard.says("y", NOW + second * SECOND, in_flight=20, arrivals=500 + second)
        one.load(busy, NOW + second * SECOND)
    now = NOW + 10 * SECOND
    del heard.views["y"]
    load = one.load(busy, now, Serving(5, NOW))
    assert load.missing == ("y",) and load.in_flight == 20 and load.wait_us == 0
    assert one.window(busy, load, now).latest == 3
    heard.says("y", now + SECOND, in_flight=1, arrivals=1)
    assert one.load(busy, now + SECOND).missing == () and one.load(busy, now + SECOND).wait_us == 0


def test_when_an_endpoint_was_called() -> None:
    """At the first request after none; more of them change nothing of it."""
    one, heard = signals("x")
    quiet = endpoint()
    assert one.called_us("demo/a") is None
    heard.says("x", NOW, held=1)
    assert one.matters(quiet, NOW) and one.called_us("demo/a") == NOW
    heard.says("x", NOW + 1, held=2)
    assert not one.matters(quiet, NOW + 1) and one.called_us("demo/a") == NOW
    heard.says("x", NOW + 2)
    assert one.matters(quiet, NOW + 2)
    heard.says("x", NOW + 3, held=1)
    assert one.matters(quiet, NOW + 3) and one.called_us("demo/a") == NOW + 3
    heard.says("x", NOW + 4)
    assert one.matters(quiet, NOW + 4)
    heard.says("x", NOW + 5, held=1)
    assert one.matters(quiet, NOW + 9, NOW + 5) and one.called_us("demo/a") == NOW + 5, "the news waited to be read"
    one.forget("demo/a")
    assert one.called_us("demo/a") is None


def test_a_call_that_was_prepared_for_is_noted_without_a_look_at_the_endpoint() -> None:
    """Once, as long as somebody is held, and for no more requests than it was prepared for."""
    one, heard = signals("x", "y")
    heard.says("x", NOW)
    assert not one.calls("demo/a", "u1", 8, NOW) and one.called_us("demo/a") is None
    heard.says("x", NOW, held=2)
    heard.says("y", NOW, in_flight=6)
    assert not one.calls("demo/a", "u1", 7, NOW) and not one.calls("demo/a", "u2", 8, NOW)
    assert one.called_us("demo/a") is None
    assert one.calls("demo/a", "u1", 8, NOW + 1) and one.calls("demo/a", "u1", 8, NOW + 2)
    one.matters(endpoint(), NOW + 3)
    assert one.called_us("demo/a") == NOW + 1
    heard.says("x", NOW + 4)
    assert one.matters(endpoint(), NOW + 4), "who leaves is news"
    heard.says("x", NOW + 5, held=1)
    assert one.calls("demo/a", "u1", 8, NOW + 5) and one.called_us("demo/a") == NOW + 5


def test_the_backlog_of_a_start_counts_by_what_comes() -> None:
    """Once it was seen how long requests and starts take: while nothing serves, and as long after as another start."""
    one, heard = signals("x")
    spec = {"scaling": {"maxReplicas": 9}}
    starts = {"window": 20, "count": 1, "p50": "10s", "p90": "10s", "recent": ["10s"]}
    woken = endpoint(spec, status={"coldStarts": starts})
    for second in range(20):
        heard.says("x", NOW + second * SECOND, in_flight=1, arrivals=second + 1)
        one.load(woken, NOW + second * SECOND, Serving(1, NOW))
    heard.says("x", NOW + 20 * SECOND, arrivals=20)
    assert one.load(woken, NOW + 20 * SECOND).backlog is None, "there is none"
    now = NOW + 600 * SECOND
    heard.says("x", now, held=40, arrivals=60)
    load = one.load(woken, now, Serving())
    assert load.backlog is not None and load.backlog.service_us == SECOND and load.requests == 8
    assert one.load(endpoint(spec), now).requests == 40, "how long a start takes is not known"
    assert one.load(woken, now + SECOND, Serving(1, now + SECOND)).backlog is not None
    assert one.load(woken, now + 12 * SECOND).backlog is None
    assert one.load(endpoint({}, status={"coldStarts": starts}), now).backlog is None, "it never has two replicas"


def test_what_a_runtime_told_of_its_model_is_kept_with_where_it_lies() -> None:
    """From the record of a finished wake, until the endpoint is gone; a record without it changes nothing."""
    one, heard = signals("x")
    heard.says("x", NOW)
    woken = endpoint({"model": {"uri": "image:///m"}})
    weights = Weights(digest=f"sha256:{'0' * 64}", bytes=538)
    stamps = Stamps(demand_us=NOW, first_byte_us=NOW + SECOND)
    for number, told in enumerate((None, weights, None)):
        assert one.told("demo/a") == (Told("image:///m", weights) if number == 2 else None)
        wake = Wake(at_us=NOW, endpoint="demo/a", uid="u1", id=f"w{number}", stamps=stamps, weights=told)
        assert one.finish(woken, heard.views["x"], wake, Sightings()) is not None
    assert one.told("demo/a") == Told("image:///m", weights)
    one.forget("demo/a")
    assert one.told("demo/a") is None


def test_an_activator_that_leaves_takes_no_activity_along() -> None:
    """It served the last request, and none that stays saw it; a namesake of the endpoint has no such past."""
    one, heard = signals("x", "y")
    heard.says("x", NOW)
    heard.says("y", NOW + 60 * SECOND, in_flight=1)
    heard.says("y", NOW + 90 * SECOND)
    last = NOW + 90 * SECOND
    assert one.load(endpoint(), last).last_activity_us == last
    heard.names = ("x",)
    del heard.views["y"]
    load = one.load(endpoint(), NOW + 95 * SECOND)
    assert (load.last_activity_us, load.last_request_us, load.missing) == (last, last, ())
    assert one.load(endpoint(uid="u2"), NOW + 95 * SECOND).last_activity_us == NOW
    one.forget("demo/a")
    assert one.load(endpoint(), NOW + 95 * SECOND).last_activity_us == NOW


def test_a_new_operator_knows_of_the_activity_that_was_written_down() -> None:
    """Where the activator that saw it is gone, too; a time that is yet to come was written by a clock that is not."""
    one, heard = signals("x")
    heard.says("x", NOW)
    now = NOW + 300 * SECOND
    for written, known in ((NOW + 240 * SECOND, NOW + 240 * SECOND), (NOW + 900 * SECOND, NOW)):
        woken = endpoint(status={"lastActivityTime": format_time(written)})
        load = one.load(woken, now)
        assert (load.last_activity_us, load.last_request_us) == (known, NOW)
        one.forget("demo/a")


def woken(id: str, demand_us: int) -> Wake:
    """Return what an activator tells of a wake."""
    stamps = Stamps(demand_us=demand_us, first_byte_us=demand_us + SECOND)
    return Wake(at_us=demand_us, endpoint="demo/a", uid="u1", id=id, stamps=stamps)


def test_what_is_told_again_is_recorded_once() -> None:
    """Neither a wake that is in the status, nor one before it: activators tell theirs to each leader."""
    one, heard = signals("x")
    heard.says("x", NOW)
    view = heard.views["x"]
    recorded = {"lastWake": {"id": "w2", "time": format_micro_time(NOW), "cause": "Request", "total": "1s"}}
    slept = endpoint(status=recorded)
    assert one.finish(slept, view, woken("w2", NOW), Sightings()) is None
    assert one.finish(slept, view, woken("w1", NOW - SECOND), Sightings()) is None and one.finished("demo/a") is None
    assert one.finish(slept, view, woken("w3", NOW + 60 * SECOND), Sightings()) is not None
    assert one.finish(slept, view, woken("w2", NOW), Sightings()) is None
    newest = one.finished("demo/a")
    assert newest is not None and newest.id == "w3"


def test_a_wake_has_the_cause_of_its_start() -> None:
    """Not of more replicas since, nor of the sleep before it, where its own decision is not written yet."""
    one, heard = signals("x")
    heard.says("x", NOW)

    def decided(*changes: tuple[int, int, str]) -> dict[str, Any]:
        at = {"time": "2026-09-21T14:13:20Z"}
        return {"decisions": [{**at, "from": before, "to": after, "reason": why} for before, after, why in changes]}

    start, more, sleep = (0, 1, "Annotation"), (1, 3, "Demand"), (1, 0, "Idle")
    assert one.cause(endpoint()) == "Request"
    assert one.cause(endpoint(status=decided(start))) == "Annotation"
    assert one.cause(endpoint(status=decided(more, start, sleep))) == "Annotation"
    assert one.cause(endpoint(status=decided(more, (0, 1, "Demand")))) == "Request"
    unwritten = endpoint(status=decided(sleep, start))
    assert one.cause(unwritten) == "Request", "nobody knows: somebody who asked waited for it"
    one.started("demo/a", Why.SCHEDULE)
    record = one.finish(unwritten, heard.views["x"], woken("w1", NOW), Sightings())
    assert record is not None and record.cause == "Schedule"
    one.forget("demo/a")
    assert one.cause(unwritten) == "Request"


def test_who_waits_is_heard_while_an_older_request_ends() -> None:
    """On a replica that was taken away: an endpoint without replicas that is called is to be looked at."""
    one, heard = signals("x")
    suspended = endpoint(status={"desiredReplicas": 0})
    heard.says("x", NOW, in_flight=1, arrivals=1)
    one.matters(suspended, NOW)
    heard.says("x", NOW + 1, in_flight=1, held=1, arrivals=2)
    assert one.matters(suspended, NOW + 1) and one.called_us("demo/a") == NOW + 1
    heard.says("x", NOW + 2, in_flight=1, held=2, arrivals=3)
    assert not one.matters(suspended, NOW + 2)
    serving = endpoint(status={"desiredReplicas": 1})
    assert one.matters(serving, NOW + 3) and not one.matters(serving, NOW + 4)
    assert one.called_us("demo/a") == NOW + 1


def test_what_engines_say_is_load_where_the_spec_asks_for_it() -> None:
    """Requests that wait there and tokens in flight, each for its own target."""
    heard: Any = Heard("x")
    heard.says("x", NOW)
    one = Signals(heard, Learners(7.0), Prewarmers(7.0), lambda key: Said(9, 30_000) if key == "demo/a" else Said())
    asks = {"maxReplicas": 9, "engineQueue": {"target": 2}}
    load = one.load(endpoint({"scaling": asks}), NOW)
    assert (load.queued, load.tokens) == (9, 30_000)
    assert one.window(endpoint({"scaling": asks}), load, NOW).latest == 5
    tokens = endpoint({"scaling": {"maxReplicas": 9, "tokensInFlight": {"target": 10_000}}})
    assert one.window(tokens, one.load(tokens, NOW), NOW).latest == 3
    plain = one.load(endpoint({"scaling": {"maxReplicas": 9}}), NOW)
    assert (plain.queued, plain.tokens) == (0, 0)
