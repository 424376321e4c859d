"""What the runtime answers is what a client of the gateway gets: the same rows are asked both ways."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.harness import Json, System, smollm2, wait_until
from e2e.protocol_rows import OPENAI, TGI, Row, tgi
from e2e.reach import forwarded
from zerotide.api.scalars import MILLISECOND, parse_duration
from zerotide.billing.reports import ColdStartReport
from zerotide.reconcile.wakes import init_us

PROXY = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy/api/v1"
STAGES = ["provision", "pull", "load", "init", "firstByte"]
OWN = ("x-request-id", "x-zerotide-cold-start", "x-zerotide-queue-ms")
"""Headers that the gateway adds."""
TIMES = ("date", "x-compute-time", "x-total-time", "x-validation-time", "x-queue-time", "x-inference-time")
FRAMING = ("connection", "content-length", "keep-alive", "transfer-encoding", "x-time-per-token")
CALM = 1.5
"""Seconds without a request after which torch takes over; the answers before may differ in their last digits."""


@dataclass(frozen=True)
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Ways:
    """An awake endpoint, and both ways to its only replica."""

    system: System
    namespace: str
    key: str
    pod: str

    def ask(self, base: str, row: Row) -> Answer:
        """Send a row to one of the ways and read the answer to its end."""
        url = urlsplit(base)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=120)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
            connection.request("POST", url.path + row.path, json.dumps(row.body).encode(), headers)
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read().decode())

    def through(self, row: Row) -> Answer:
        """Ask through the gateway."""
        return self.ask(self.system.url(self.namespace, "smollm2"), row)

    def directly(self, row: Row) -> Answer:
        """Ask the pod itself."""
        return self.ask(self.pod, row)

    def startup(self) -> dict[str, float]:
        """Return the stages that the runtime has reached, in milliseconds since its process began."""
        url = urlsplit(self.pod)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/startup")
            return {stage["name"]: stage["ms"] for stage in json.load(connection.getresponse())["stages"]}


@pytest.fixture(scope="module")
def ways(system: System) -> Iterator[Ways]:
    """Wake an endpoint by its first request, and remove it at the end: it holds as much memory as all others."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "smollm2", smollm2(idle="10m"))
    asleep = Ways(system, namespace, key, "")
    first = asleep.through(tgi("the first"))
    assert (first.status, first.headers["x-zerotide-cold-start"]) == (200, "true"), first
    (pod,) = system.pods(namespace, "smollm2")
    with forwarded(system.kubectl_path, str(system.kubeconfig), pod) as url:
        yield Ways(system, namespace, key, url)
    system.kubectl("delete", "iep", "smollm2", "-n", namespace, "--wait=false")


@pytest.fixture(scope="module")
def settled(ways: Ways) -> Ways:
    """Wait until the model runs on what it will go on running on."""

    def taken_over() -> bool:
        ways.directly(tgi("one more"))
        if "torch" in ways.startup():
            return True
        time.sleep(CALM)
        return False

    wait_until("torch takes over", taken_over, 120)
    return ways


def test_a_wake_is_recorded_with_its_stages(ways: Ways) -> None:
    """The same in the status and in the bill, and long enough for what the runtime says of its own start."""

    def recorded() -> Json | None:
        wake: Json | None = ways.system.status(ways.namespace, "smollm2").get("lastWake")
        return wake

    wake = wait_until("the wake is recorded", recorded)
    told = [(stage["name"], parse_duration(stage["duration"])) for stage in wake["stages"]]
    assert [name for name, _ in told] == STAGES
    assert sum(us for _, us in told) == parse_duration(wake["total"])
    assert abs(dict(told)["init"] - init_us(ways.startup())) <= MILLISECOND, (
        "what follows the weights, as it says itself"
    )
    own = ways.startup()
    assert own["listen"] <= own["ready"] <= own["first_token"]
    assert own["ready"] < parse_duration(wake["total"]) / 1000 + 20, "its process began within the wake"
    token = ways.system.kubectl("create", "token", "zerotide-reader", "-n", "zerotide-system").strip()

    def billed() -> ColdStartReport | None:
        content = ways.system.report(f"{PROXY}/coldstarts?namespace={ways.namespace}", token)
        report = ColdStartReport.model_validate(content)
        return report if report.wakes else None

    (cold,) = wait_until("the bill has the wake", billed).wakes
    assert [(stage.name, stage.us) for stage in cold.stages] == told


@pytest.mark.parametrize("row", [*TGI, *OPENAI], ids=lambda row: f"{row.path} {row.name}")
def test_the_gateway_changes_no_answer(settled: Ways, row: Row) -> None:
    through, directly = settled.through(row), settled.directly(row)
    assert directly.status == row.status, directly
    assert through.status == row.status, through
    assert kept(through.headers) == kept(directly.headers)
    assert set(OWN) <= through.headers.keys() and not set(OWN) & directly.headers.keys()
    if directly.headers["content-type"].startswith("text/event-stream"):
        pairs = list(zip(lines(through.body), lines(directly.body), strict=True))
        assert len(pairs) > 3
        for ours, theirs in pairs:
            expected = asked_for_usage(theirs) if adds_usage(row) else theirs
            assert alike(ours, expected), (ours, theirs)
    else:
        assert alike(json.loads(through.body), json.loads(directly.body)), (through.body, directly.body)


def adds_usage(row: Row) -> bool:
    """Tell whether the gateway asks a stream for its usage, which its client did not."""
    return row.path in ("/v1/chat/completions", "/v1/completions") and "stream_options" not in row.body


def asked_for_usage(line: tuple[str, Any]) -> tuple[str, Any]:
    """Return a line as it is where usage comes at the end: no chunk before has any, and says so."""
    field, content = line
    return line if content is None else (field, {**content, "usage": None})


def kept(headers: dict[str, str]) -> dict[str, str]:
    """Return what must not differ: all but times, framing and what the gateway adds."""
    return {name: value for name, value in headers.items() if name not in (*OWN, *TIMES, *FRAMING)}


def lines(body: str) -> list[tuple[str, Any]]:
    """Return a stream's lines without comments, empty ones too: what is before the JSON to the letter, and the JSON."""
    assert body.endswith("\n\n"), body[-100:]
    events = [event for event in body.split("\n\n") if not event.startswith(":")]
    found: list[tuple[str, Any]] = []
    for line in "\n\n".join(events).split("\n"):
        field, brace, rest = line.partition("{")
        found.append((field, json.loads(brace + rest) if brace else None))
    return found


def alike(ours: Any, theirs: Any, name: str = "") -> bool:
    """Tell whether two members are equal but for ids, times, what was cached, and the rounding of odds."""
    if type(ours) is not type(theirs):
        return False
    if name in ("created", "cached_tokens"):  # what was there depends on who asked before
        return True
    if isinstance(ours, str):
        return ours == theirs or (name == "id" and kind(ours) == kind(theirs) != "")
    if isinstance(ours, float):
        return math.isclose(ours, theirs, abs_tol=0.01)
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(alike(ours[each], theirs[each], each) for each in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    return bool(ours == theirs)


def kind(id: str) -> str:
    """Return what an id begins with, such as `chatcmpl-`."""
    found = re.match(r"[a-z]+[-_]", id)
    return found[0] if found else ""
