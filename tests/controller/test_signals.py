"""What the operator makes of demand: lines that are waited in, calls that are heard, activators that say nothing."""

from __future__ import annotations

from typing import Any

from tests.reconcile.helpers import NOW, endpoint
from zerotide.api.demand import Delta, Demand, Snapshot
from zerotide.api.scalars import SECOND
from zerotide.controller.learners import Learners
from zerotide.controller.prewarmers import Prewarmers
from zerotide.controller.signals import Signals
from zerotide.scaling.demand import View

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
        one.window(busy, one.load(busy, NOW + second * SECOND), NOW + second * SECOND, serving=3)
    now = NOW + 20 * SECOND
    heard.says("x", now, held=2, in_flight=6, arrivals=20)
    load = one.load(busy, now)
    window = one.window(busy, load, now, serving=3)
    assert load.wait_us == 2 * SECOND and window.latest == 6, "twice as many as serve"
    assert one.window(busy, load, now).latest == 6, "as many serve as did"
    plain = endpoint({"scaling": {"maxReplicas": 9}})
    assert one.load(plain, now).wait_us == 0 and one.window(plain, one.load(plain, now), now).latest == 1
    heard.says("x", now + SECOND, in_flight=6, arrivals=22)
    load = one.load(busy, now + SECOND)
    assert load.wait_us == 0 and one.window(busy, load, now + SECOND, serving=3).latest == 1


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
    load = one.load(busy, now)
    assert load.missing == ("y",) and load.in_flight == 20 and load.wait_us == 0
    assert one.window(busy, load, now, serving=5).latest == 3
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
    one.forget("demo/a")
    assert one.called_us("demo/a") is None
