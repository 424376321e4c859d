"""The operator put together, without a server: sweeps, priorities, fences, metrics, health."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, Literal

import aiohttp
import pytest

from tests.reconcile.helpers import NOW, raw
from zerotide.api.conditions import State
from zerotide.api.demand import Delta, Demand, Snapshot, Wake
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.controller.activators import Activator
from zerotide.controller.admin import Admin
from zerotide.controller.cache import Children
from zerotide.controller.executor import Executor
from zerotide.controller.failures import NotLeading
from zerotide.controller.handlers import registry
from zerotide.controller.main import main
from zerotide.controller.metrics import Metrics
from zerotide.controller.options import parse
from zerotide.controller.pace import Pace
from zerotide.controller.process import CALM, Operator
from zerotide.controller.schedule import Priority
from zerotide.controller.settings import settings
from zerotide.controller.watches import Heartbeat
from zerotide.kube import Change, Client, Credentials
from zerotide.kube.logs import Formatter
from zerotide.reconcile.child import Child, Kind
from zerotide.reconcile.observed import Observed
from zerotide.reconcile.plan import Delete
from zerotide.reconcile.steer import Apply, Create, Scale
from zerotide.scaling.decide import Why
from zerotide.scaling.demand import View

NOWHERE = Credentials("http://127.0.0.1:1", None)


def operator() -> Operator:
    """Return an operator that talks to nobody."""
    return Operator(Client(NOWHERE), parse([], {"POD_NAME": "op-0"}))


async def test_a_successor_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although no watch told of the end of the endpoint whose name it has; and what is told late changes nothing."""
    made = operator()
    ended: list[str] = []
    monkeypatch.setattr(made.signals, "forget", ended.append)
    for name, take in (("a", lambda obj: made.on_event("MODIFIED", obj)), ("b", lambda obj: made._take([obj]))):
        take(raw(name=name, uid="u1", resourceVersion="5"))
        take(raw(name=name, uid="u1", resourceVersion="6"))
        assert ended == []
        take(raw(name=name, uid="u2", resourceVersion="9"))
        take(raw(name=name, uid="u1", resourceVersion="7"))
        assert ended == [f"demo/{name}"] and made.endpoints.get(f"demo/{name}") == raw(
            name=name, uid="u2", resourceVersion="9"
        )
        assert made.queue._schedule.take(0.0) == f"demo/{name}"
        ended.clear()


@pytest.mark.parametrize(("type_", "looked_at"), [("EndpointSlice", "demo/a"), ("ExternalName", None)])
async def test_activators_that_move_call_for_looks_where_slices_hold_their_addresses(
    type_: str, looked_at: str | None
) -> None:
    """Ten thousand looks that could find nothing would keep whoever wakes then waiting."""
    made = Operator(Client(NOWHERE), parse(["--service-type", type_], {"POD_NAME": "op-0"}))
    made.on_event("ADDED", raw())
    assert made.queue._schedule.take(0.0) == "demo/a"
    made.queue._schedule.done("demo/a")
    made._activators_changed((Activator("act-0", "uid", "10.0.0.1", serves=True),))
    assert made.queue._schedule.take(0.0) == looked_at
    assert made.streams.names == ("act-0",), "who is to be heard is another matter"


async def test_a_wish_goes_first() -> None:
    """Before changes, which go before what the first list brought."""
    made = operator()
    wish = {"wakeRequest": {"id": "w", "time": "2026-09-21T14:12:30Z", "by": "a"}}
    made.on_event("", raw(name="listed", uid="1"))
    made.on_event("MODIFIED", raw(name="changed", uid="2"))
    made.on_event("MODIFIED", raw(name="woken", uid="3", status=wish))
    made.on_event("MODIFIED", raw(name="handled", uid="4", status={**wish, "handledWakeRequest": "w"}))
    order = [made.queue._schedule.take(0.0) for _ in range(4)]
    assert order == ["demo/woken", "demo/changed", "demo/handled", "demo/listed"]
    assert made._priority(raw(status=wish), "MODIFIED") is Priority.WAKE


async def test_whom_a_request_waits_for_goes_first() -> None:
    """As an activator tells, before whatever else there is to look at; one that is awake takes its turn."""
    made = operator()
    for name, replicas in (("first", 0), ("asleep", 0), ("awake", 1)):
        made.on_event("ADDED", raw(name=name, uid=name, status={"desiredReplicas": replicas}))
    now_us, schedule = made._clock.now_us(), made.queue._schedule
    demands = tuple(
        Demand(endpoint=f"demo/{name}", uid=name, held=1, in_flight=0, arrivals=1, last_activity_us=now_us)
        for name in ("awake", "asleep")
    )
    view = made.streams.views["act"] = View()
    view.apply(Snapshot(activator="act", started_at_us=now_us, at_us=now_us, demands=demands), now_us)
    for demand in demands:
        made._demand_changed(demand.endpoint)
    assert [schedule.take(0.0) for _ in range(4)] == ["demo/asleep", "demo/first", "demo/awake", None]


async def test_changes_of_a_start_are_gathered_and_a_wake_is_not() -> None:
    """A dozen changes of pods and children are one round; held requests do not wait for it."""
    made = operator()
    made.on_event("ADDED", raw())
    assert made.queue._schedule.take(0.0) == "demo/a"
    made.queue._schedule.done("demo/a")
    began = time.monotonic()
    for _ in range(12):
        made._changed("demo/a")
    made._changed("demo/unknown")
    due = made.queue._schedule.next_due()
    assert due is not None and began < due <= time.monotonic() + CALM
    assert made.queue._schedule.take(began) is None
    made.queue.add("demo/a", Priority.WAKE)
    assert made.queue._schedule.take(began) == "demo/a"
    made.queue._schedule.done("demo/a")
    assert made.queue._schedule.take(due + 1) is None, "the round that came sooner saw them all"


@pytest.mark.parametrize("elect", ["true", "false"])
async def test_who_leads_knows_everything_at_once(elect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby lets changes wait and follows no endpoints; before it works it has caught up and listed them anew."""
    made = Operator(Client(NOWHERE), parse(["--elect", elect], {"POD_NAME": "op-0"}))
    listed: list[bool] = []

    async def at_once() -> None:
        pass

    async def endpoints() -> None:
        listed.append(made.led.is_set())

    monkeypatch.setattr(made.watches, "wait_synced", at_once)
    monkeypatch.setattr(made.token, "refresh", at_once)
    monkeypatch.setattr(made.token, "run", at_once)
    monkeypatch.setattr(made, "_list", endpoints)
    made.listed.set()
    leading = asyncio.create_task(made._lead())
    if elect == "true":
        for _ in range(5):
            await asyncio.sleep(0)
        assert not made.watches._linger.over.is_set() and not made.led.is_set() and listed == []
        made.elector.elected.set()
    async with asyncio.timeout(5):
        await made.led.wait()
    assert made.watches._linger.over.is_set() and listed == [False]
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    await made.streams.close()


async def test_whose_name_is_taken_or_free_again_is_looked_at() -> None:
    """The younger endpoint is planned anew when the older comes, changes or goes."""
    made = operator()
    model = {"model": {"uri": "image:///m", "name": "chat"}}
    old, new = "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"
    made.on_event("ADDED", raw(model, name="new", uid="2", creationTimestamp=new))
    assert made.queue._schedule.take(0.0) == "demo/new" and made.endpoints.claims.taken("demo/new") == ()
    made.queue._schedule.done("demo/new")
    made.on_event("ADDED", raw(model, name="old", uid="1", creationTimestamp=old))
    assert [made.queue._schedule.take(0.0) for _ in range(3)] == ["demo/old", "demo/new", None]
    assert [taken.by for taken in made.endpoints.claims.taken("demo/new")] == ["old"]
    made.queue._schedule.done("demo/new")
    made.on_event("DELETED", raw(model, name="old", uid="1", creationTimestamp=old))
    assert made.queue._schedule.take(0.0) == "demo/new" and made.endpoints.claims.taken("demo/new") == ()


async def test_only_those_whom_it_concerns_are_looked_at() -> None:
    """A class is news for endpoints that name it, a report of an activator for those that are awake."""
    made = operator()
    wanted: dict[str, dict[str, Any]] = {"first": {"className": "h100"}, "none": {"className": "a100"}}
    wanted["second"] = {"className": "a100", "alternatives": [{"className": "h100"}]}
    for name, accelerator in wanted.items():
        made.on_event("ADDED", raw({"accelerator": accelerator}, name=name, uid=f"u-{name}"))
    made.on_event("ADDED", raw(name="awake", uid="9", status={"desiredReplicas": 1}))

    def asked() -> set[str]:
        keys = iter(lambda: made.queue._schedule.take(0.0), None)
        found = set()
        for key in keys:
            found.add(key)
            made.queue._schedule.done(key)
        return found

    assert len(asked()) == 4
    made._class_changed("h100")
    assert asked() == {"demo/first", "demo/second"}
    made._reports_changed()
    assert asked() == {"demo/awake"}
    made.on_event("ADDED", raw(name="else", namespace="other", uid="10"))
    assert asked() == {"other/else"}
    made._namespace_changed("other")
    assert asked() == set(), "labels matter where a class selects by them"
    selective = {"metadata": {"name": "ours", "resourceVersion": "1"}, "spec": {"namespaceSelector": {}}}
    kind = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "AcceleratorClass"}
    made.watches.classes.take(Change("set", {**kind, **selective}))
    made._namespace_changed("other")
    assert asked() == {"other/else"}


@pytest.mark.parametrize(
    "write",
    [
        Create(Child(Kind.SERVICE, {"metadata": {}})),
        Apply(Child(Kind.SERVICE, {"metadata": {}})),
        Scale("u", 1),
        Delete(Kind.SERVICE, "u"),
    ],
    ids=lambda write: type(write).__name__,
)
async def test_nothing_is_written_without_the_lease(write: Any) -> None:
    """Whatever was planned when it was still held."""
    executor = Executor(Client(NOWHERE), Children({}), lambda: False, Pace(1))
    with pytest.raises(NotLeading):
        await executor.carry_out("demo/a", write)
    with pytest.raises(NotLeading):
        await executor.write_status({"name": "a", "namespace": "demo", "uid": "u"}, {})


async def test_a_finished_wake_is_taken_once_and_only_for_its_endpoint() -> None:
    """Several activators may tell of the same one."""
    made = operator()
    made.on_event("ADDED", raw())
    view, stamps = View(), {"demandUs": NOW, "firstByteUs": NOW + 500_000}
    told = {"atUs": NOW, "endpoint": "demo/a", "uid": "u1", "id": "w1", "stamps": stamps}
    for _ in range(2):
        made._woken(view, Wake.model_validate(told))
    made._woken(view, Wake.model_validate({**told, "uid": "another", "id": "w2"}))
    made._woken(view, Wake.model_validate({**told, "endpoint": "demo/b", "id": "w3"}))
    record = made.signals.finished("demo/a")
    assert record is not None and (record.id, record.total) == ("w1", "500ms")
    page = made.metrics.text().decode()
    assert 'zerotide_wakes_total{cause="Request",outcome="served"} 1.0' in page
    assert 'zerotide_cold_start_seconds_count{stage="total"} 1.0' in page


async def test_the_admin_port_tells_health_readiness_and_metrics() -> None:
    """With what is wrong, in words."""
    problems = {"health": "", "ready": "stopping"}
    metrics = Metrics()
    metrics.decided(Why.IDLE)
    metrics.wake_failed("Request")
    metrics.wake_decided(0.004)
    admin = Admin("127.0.0.1", 0, metrics, unhealthy=lambda: problems["health"], unready=lambda: problems["ready"])
    port = await admin.start()
    async with aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok\n")
        assert await get("/readyz") == (503, "stopping\n")
        status, page = await get("/metrics")
    await admin.stop()
    assert status == 200 and page.endswith("# EOF\n")
    assert 'zerotide_decisions_total{reason="Idle"} 1.0' in page and "zerotide_build_info" in page
    assert 'zerotide_wakes_total{cause="Request",outcome="failed"} 1.0' in page
    assert "zerotide_wake_decision_seconds_count 1.0" in page


def test_who_sleeps_is_the_last_to_have_series_of_its_own() -> None:
    """However early it came; the others are named, so that alerts can name them."""
    metrics, nothing = Metrics(2), Observed(endpoint=InferenceEndpoint.parse(raw()))
    for name, state in (("s1", State.ASLEEP), ("s2", State.ASLEEP), ("up", State.AWAKE), ("bad", State.FAILED)):
        metrics.state(InferenceEndpoint.parse(raw(name=name)), state, 0, nothing)
    page = metrics.text().decode()
    for name, told in (("up", "Awake"), ("bad", "Failed")):
        assert f'zerotide_endpoint_state{{inference_endpoint="{name}",namespace="demo",state="{told}"}} 1.0' in page
    assert 'inference_endpoint="_other",namespace="_other",state="Asleep"} 2.0' in page and '"s1"' not in page


async def test_what_waits_for_work_is_counted_when_it_is_asked_for() -> None:
    """Also while every worker waits for an API server that does not answer."""
    made = operator()
    for number in range(3):
        made.on_event("ADDED", raw(name=f"n{number}", uid=f"u{number}"))
    assert "zerotide_workqueue_depth 3.0" in made.metrics.text().decode()


def test_a_decision_is_timed_from_the_news_that_called_for_it() -> None:
    """From the demand that was heard, or from the version of the object that holds the wish; time calls for others."""
    made = operator()
    made.on_event("ADDED", raw())
    asked = made.reconciler._asked_us
    assert asked("demo/a", Why.REQUEST) == made.endpoints.arrived_us("demo/a") > 0
    assert asked("demo/a", Why.DEMAND) is None and asked("demo/a", Why.IDLE) is None
    made.streams.views["x"] = view = View()
    view.apply(Snapshot(activator="x", started_at_us=NOW, at_us=NOW), NOW)
    demand = Demand(endpoint="demo/a", uid="u1", held=1, in_flight=0, arrivals=1, last_activity_us=NOW)
    view.apply(Delta(at_us=NOW, demand=demand), NOW)
    before = made._clock.now_us()
    made._demand_changed("demo/a")
    heard = asked("demo/a", Why.DEMAND)
    assert heard is not None and before <= heard <= made._clock.now_us()


async def test_an_operator_is_not_ready_before_it_knows_anything() -> None:
    """And says that the CRD may be missing; a loop that is stuck is not healthy."""
    made = operator()
    assert "CustomResourceDefinition" in made._unready()
    made.listed.set()
    assert "watches" in made._unready()
    assert made._unhealthy() == ""
    now = [0.0]
    beat = Heartbeat(lambda: now[0])
    now[0] = 12.0
    assert beat.late() == 12.0
    beat.beat()
    assert beat.late() == 0.0


def test_kopf_writes_scans_and_meets_nobody() -> None:
    """It is here for its watch alone."""
    chosen = settings()
    assert chosen.scanning.disabled and chosen.peering.standalone and not chosen.posting.enabled
    handlers = registry(lambda type_, obj: None, NOWHERE, lambda version: False)
    assert len(list(handlers._watching.get_all_handlers())) == 1
    assert not list(handlers._changing.get_all_handlers()) and not list(handlers._indexing.get_all_handlers())


def test_kopf_need_not_call_a_handler() -> None:
    """An event is taken in where kopf asks about it; its first list has no types."""
    told: list[tuple[str, str]] = []
    handlers = registry(lambda type_, obj: told.append((type_, obj["metadata"]["uid"])), NOWHERE, lambda version: False)
    (handler,) = handlers._watching.get_all_handlers()
    taken_in: Any = handler.when
    for type_ in (None, "ADDED", "MODIFIED", "DELETED"):
        assert not taken_in(event={"type": type_, "object": raw()}, body=None)
    assert told == [("", "u1"), ("ADDED", "u1"), ("MODIFIED", "u1"), ("DELETED", "u1")]


@pytest.mark.parametrize("form", ["json", "text"])
def test_log_lines_are_one_line_with_keys(form: Literal["json", "text"]) -> None:
    """Newlines in messages or values do not break a line in two."""
    record = logging.makeLogRecord(
        {"msg": "decided", "levelname": "INFO", "name": "x", "key": "demo/a\nforged", "msecs": 7}
    )
    line = Formatter(form).format(record)
    assert "\n" not in line and "decided" in line and "demo/a" in line
    if form == "json":
        assert json.loads(line)["key"] == "demo/a\nforged"


def test_settings_that_cannot_be_used_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """And one line that says which."""
    assert main(["--port", "many"]) == 2
    assert "--port 'many': give a number" in capsys.readouterr().err
