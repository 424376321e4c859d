"""The parts of the parent: sums that never lie, shares that add up, children that come back."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.activator.processes.api import Api
from tests.activator.stack import until
from zerotide.activator.endpoints.peers import members_of
from zerotide.activator.failures import ChildSilent, SettingsError
from zerotide.activator.metrics import Metrics
from zerotide.activator.processes import child as child_module
from zerotide.activator.processes.child import Child
from zerotide.activator.processes.demand import Merged
from zerotide.activator.processes.member import Member
from zerotide.activator.processes.pages import Sum
from zerotide.activator.settings import parse
from zerotide.activator.wire import open_socket
from zerotide.api.demand import Delta, Demand, Message, Report, Snapshot, Stamps, Wake


def page(requests: int, in_flight: int, name: str = "m") -> str:
    """Return the metrics of a process."""
    metrics = Metrics(lambda: 0.0)
    series = metrics.of("demo", name)
    series.requests["200", "false"] += requests
    for _ in range(requests):
        series.duration["false"].observe(0.02)
    return metrics.render()[0].decode() + f"zerotide_connections {in_flight}.0\n"


def sample(text: bytes, key: str) -> float:
    """Return a sample of a page."""
    found = [line for line in text.decode().splitlines() if line.startswith(key + " ")]
    assert len(found) == 1, f"{key}: {found}"
    return float(found[0].rpartition(" ")[2])


AT = 'inference_endpoint="m",namespace="demo"'
REQUESTS = f'zerotide_requests_total{{code="200",cold="false",{AT}}}'
COUNT = f'zerotide_request_duration_seconds_count{{cold="false",{AT}}}'
FEW = settings(max_examples=25, deadline=None)


@FEW
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_pages_add_up(requests: list[int]) -> None:
    """Counters and histograms are those of all; what is constant stays; every family stands once."""
    total = Sum()
    for number, count in enumerate(requests):
        total.take(number, page(count, 1))
    text = total.render("# HELP x_y Own.\n# TYPE x_y gauge\nx_y 7.0\n")
    assert sample(text, REQUESTS) == sum(requests)
    assert sample(text, COUNT) == sum(requests)
    assert sample(text, "x_y") == 7
    assert b'zerotide_build_info{component="activator",version="0.1.0"} 1.0' in text
    families = [line for line in text.decode().splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    assert text.endswith(b"# EOF\n")


def test_how_full_usage_logs_are_is_told_of_the_fullest() -> None:
    """Shares of a bound do not add up; what waits does."""
    total = Sum()
    for number, ratio in enumerate((0.25, 0.75, 0.5)):
        lines = ["# TYPE zerotide_usage_backlog_ratio gauge", f"zerotide_usage_backlog_ratio {ratio}"]
        lines += ["# TYPE zerotide_usage_backlog_bytes gauge", "zerotide_usage_backlog_bytes 10.0"]
        total.take(number, "\n".join(lines))
    assert sample(total.render(), "zerotide_usage_backlog_ratio") == 0.75
    assert sample(total.render(), "zerotide_usage_backlog_bytes") == 30


def test_usage_bounds_are_shared_out() -> None:
    """What may wait is the pod's; how long is not shared."""
    whole = parse(["--usage-max-bytes", "1000", "--usage-max-records", "10", "--usage-max-age", "1s"], {})
    assert Member(1, 4, "/a", 0, 0, None, 0).settings(whole).usage_bounds == (250, 3, 1_000_000)


@FEW
@given(st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(1, 9))), max_size=20))
def test_a_counter_never_falls(events: list[tuple[int, int | None]]) -> None:
    """Processes count, are scraped, and die in any order: what was told once is never taken back."""
    total, counts, told = Sum(), {0: 0, 1: 0, 2: 0}, 0.0
    for number in counts:
        total.take(number, page(0, 0))
    for number, change in events:
        counts[number] = 0 if change is None else counts[number] + change
        if change is None:
            total.died(number)
        total.take(number, page(counts[number], 0))
        now = sample(total.render(), REQUESTS)
        assert now >= told
        told = now


def test_endpoints_that_nobody_has_any_more_are_forgotten() -> None:
    """At the death after; gauges of the dead go at once."""
    total = Sum()
    total.take(0, page(3, 5, "old"))
    total.take(1, page(1, 1))
    total.died(0)
    text = total.render()
    assert b'inference_endpoint="old"' in text
    assert sample(text, "zerotide_connections") == 1
    total.take(0, page(1, 1))
    total.died(1)
    total.take(1, page(1, 1))
    text = total.render()
    assert b'inference_endpoint="old"' not in text
    assert sample(text, REQUESTS) == 3


def demand(endpoint: str = "a/b", uid: str = "u", **counts: int) -> Demand:
    """Return the demand of an endpoint at a process."""
    whole = {"held": 0, "in_flight": 0, "arrivals": 0, "last_activity_us": 0, **counts}
    return Demand(endpoint=endpoint, uid=uid, **whole)


def begun(count: int) -> Merged:
    """Return the demand of processes that began with nothing."""
    merged = Merged("act-0")
    for number in range(count):
        merged.snapshot(number, Snapshot(activator=f"act-0/{number}", started_at_us=number, at_us=10))
    return merged


counts = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99), st.integers(0, 10**6))


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a/b", "c/d"]), counts), max_size=40))
def test_demand_adds_up(events: list[tuple[int, str, tuple[int, int, int, int]]]) -> None:
    """After each line the sum is that of what every process said last, and activity the newest of all."""
    merged = begun(3)
    known: dict[str, dict[int, tuple[int, int, int, int]]] = {}
    for number, endpoint, numbers in events:
        held, in_flight, arrivals, last = numbers
        known.setdefault(endpoint, {})[number] = numbers
        line = demand(endpoint, held=held, in_flight=in_flight, arrivals=arrivals, last_activity_us=last)
        [told] = merged.take(number, Delta(at_us=1, demand=line), 99)
        assert isinstance(told, Delta)
        sums = [sum(each[index] for each in known[endpoint].values()) for index in range(3)]
        assert [told.demand.held, told.demand.in_flight, told.demand.arrivals] == sums
        assert told.demand.last_activity_us == max(each[3] for each in known[endpoint].values())
        assert told.at_us == 99


def test_a_report_is_that_of_the_slowest() -> None:
    """Up to a time everything was told only if everyone told it; the activator is as old as its youngest process."""
    merged = begun(2)
    whole = merged.whole()
    assert (whole.activator, whole.started_at_us, whole.at_us) == ("act-0", 1, 10)
    assert merged.take(0, Report(at_us=50), 60) == []
    assert merged.take(1, Report(at_us=40), 60) == [Report(at_us=40)]
    assert merged.take(1, Report(at_us=70), 80) == [Report(at_us=50)]
    wake = Wake(at_us=1, endpoint="a/b", uid="u", id="w", stamps=Stamps(demand_us=1, first_byte_us=2))
    assert merged.take(0, wake, 90) == [wake]


def test_one_that_drained_holds_nothing() -> None:
    """It is idle, waits for nobody's report, and its arrivals stay."""
    merged = begun(2)
    merged.take(0, Delta(at_us=1, demand=demand(held=2, arrivals=5, last_activity_us=7)), 1)
    merged.take(1, Delta(at_us=1, demand=demand(held=1, arrivals=1, last_activity_us=3)), 1)
    told: list[Message] = merged.left(0, 9)
    [delta] = [each for each in told if isinstance(each, Delta)]
    assert (delta.demand.held, delta.demand.arrivals, delta.demand.last_activity_us) == (1, 6, 7)
    assert Report(at_us=90) in merged.take(1, Report(at_us=90), 9)


def test_an_endpoint_made_again() -> None:
    """What was said of its namesake that is gone is not added."""
    merged = begun(2)
    merged.take(0, Delta(at_us=1, demand=demand(uid="old", held=3, last_activity_us=1)), 1)
    [told] = merged.take(1, Delta(at_us=1, demand=demand(uid="new", held=1, last_activity_us=2)), 1)
    assert isinstance(told, Delta)
    assert (told.demand.uid, told.demand.held) == ("new", 1)
    [told] = merged.take(0, Delta(at_us=1, demand=demand(uid="old", last_activity_us=3)), 1)
    assert isinstance(told, Delta)
    assert (told.demand.uid, told.demand.held) == ("new", 1), "nor is its end more than what goes on"


@given(st.integers(1, 64), st.integers(1, 10**6), st.integers(0, 10**6))
def test_shares_of_the_limits(of: int, connections: int, per_address: int) -> None:
    """No process has less than its part, all together at most one more each; no bound stays none."""
    whole = parse([], {"POD_NAME": "p"})
    whole = replace(whole, limits=replace(whole.limits, connections=connections, connections_per_address=per_address))
    parts = [Member(number, of, "", 3, 4, None, 0).settings(whole) for number in range(of)]
    assert connections <= sum(part.limits.connections for part in parts) < connections + of
    assert (per_address == 0) == (parts[0].limits.connections_per_address == 0)
    assert len({part.pod_name for part in parts}) == of
    assert parts[0].limits.buffered_bytes >= parts[0].limits.body_bytes


def test_a_member_is_told_by_its_parent(tmp_path: Path) -> None:
    """By one variable; each has a usage log of its own."""
    member = Member(1, 2, "/s", 3, 4, 5, 6)
    assert Member.of_environment({"ZEROTIDE_MEMBER": member.encode()}) == member
    assert Member.of_environment({}) is None
    for nonsense in ("x", "{}", "[1]"):
        with pytest.raises(SettingsError, match="ZEROTIDE_MEMBER"):
            Member.of_environment({"ZEROTIDE_MEMBER": nonsense})
    told = member.settings(parse(["--usage-dir", str(tmp_path), "--pod-name", "p"], {}))
    assert (told.pod_name, told.usage_dir) == ("p/1", tmp_path / "1")


def test_members_of_pods() -> None:
    """A pod says itself how many processes it has, so that an upgrade may change their number."""

    def pod(name: str, *environment: dict[str, str]) -> dict[str, object]:
        ready = {"type": "Ready", "status": "True"}
        spec = {"containers": [{"name": "activator", "env": list(environment)}]}
        return {"metadata": {"name": name}, "spec": spec, "status": {"podIP": "10.0.0.1", "conditions": [ready]}}

    pods = [pod("a"), pod("b", {"name": "ZEROTIDE_PROCESSES", "value": "2"}), pod("c", {"name": "POD_NAME"})]
    members = sorted(members_of(pods, 9091))
    assert [(member.name, member.port) for member in members] == [
        ("a", 9091),
        ("b/0", 9091),
        ("b/1", 9092),
        ("c", 9091),
    ]
    assert all(member.leads and member.counts for member in members)


def test_pods_that_do_not_lead() -> None:
    """One that only starts takes no part yet, one that leaves only ends what it has, one that is over is gone."""
    status = {"podIP": "10.0.0.1", "phase": "Running"}
    starting = {"metadata": {"name": "a"}, "status": status}
    leaving = {"metadata": {"name": "b", "deletionTimestamp": "2026-11-22T10:00:00Z"}, "status": status}
    over = {"metadata": {"name": "c"}, "status": {**status, "phase": "Failed"}}
    nowhere = {"metadata": {"name": "d"}, "status": {"phase": "Pending"}}
    members = sorted(members_of([starting, leaving, over, nowhere], 9091))
    assert [(member.name, member.leads, member.counts) for member in members] == [
        ("a", False, False),
        ("b", False, True),
    ]


Starter = Callable[..., Child]


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starter:
    """Return how to make a child whose parent is quick to lose patience."""
    for name, value in (("WATCH", 0.2), ("PATIENCE", 0.5), ("FIRST_PAUSE", 0.01)):
        monkeypatch.setattr(child_module, name, value)
    monkeypatch.setattr(child_module, "ASKING", aiohttp.ClientTimeout(total=0.3))

    def make(*arguments: str) -> Child:
        def listeners() -> list[socket.socket]:
            return [open_socket("127.0.0.1", 0, shared=True)]

        return Child(
            0, 1, tmp_path, ["--exporter-url", "none", "--drain-listen", "0s", *arguments], 0, listeners, time.monotonic
        )

    return make


async def test_a_stuck_process_is_killed(starter: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers no more is started again; until then it is silent."""
    async with Api(tmp_path) as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
        child = starter()
        with pytest.raises(ChildSilent, match="not running"):
            await child.ask("/healthz")
        made, running = child.healthy_at, asyncio.create_task(child.run())
        await until(lambda: child.healthy_at > made, timeout=30)
        async with asyncio.timeout(30):
            child.signal(signal.SIGSTOP)
            with pytest.raises(ChildSilent, match="does not answer"):
                await child.ask("/healthz")
            while child.restarts == 0 or not await healthy(child):
                await asyncio.sleep(0.05)
        child.end()
        await running
        assert child.ended.is_set()


async def healthy(child: Child) -> bool:
    """Tell whether a child says that all is well."""
    try:
        return (await child.ask("/healthz"))[0] == 200
    except ChildSilent:
        return False


async def test_one_that_cannot_start_is_no_obstacle(starter: Starter) -> None:
    """It is tried again and again, with pauses that grow, and its socket is closed for others to have its clients."""
    child = starter("--port", "nonsense")
    deaths: list[int] = []
    child.died = lambda: deaths.append(1)
    running = asyncio.create_task(child.run())
    await until(lambda: len(deaths) >= 2, timeout=20)
    await until(lambda: not child._listeners, timeout=20)
    child.end()
    await running
    assert child.restarts >= 2
