"""The held benchmark's own parts: what it waits for on real sockets, and what it makes of its figures."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from bench.hold.holders import ROOMY
from bench.hold.table import Bounded, Outcome, result, table
from bench.hold.waiting import gauge, until_gauge, until_holding, until_quiet
from bench.wire import requests
from bench.wire.inside import ours_command
from bench.wire.load import Load, LoadFailed, Spread
from bench.wire.processes import LOAD_CORE, free_port, running
from bench.wire.programs import compiled
from zerotide.activator import settings

PAGE = """# HELP zerotide_held_requests Requests that are held.
# TYPE zerotide_held_requests gauge
zerotide_held_requests{namespace="a",endpoint="m"} 11999.0
zerotide_held_requests{namespace="b",endpoint="m"} 1.0
zerotide_held_requests_other{namespace="b",endpoint="m"} 7.0
"""


@pytest.fixture
def admin() -> Iterator[int]:
    """Serve the page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep still."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def load_of(statuses: dict[int, int], failed: int = 0, first: int = 0, last: int = 0) -> Load:
    """Return a load of these answers."""
    answered = sum(statuses.values())
    return Load(10.0, answered, failed, 0, statuses, Spread(), Spread(), 0, 0, first, last, "HTTP/1.1 200 OK")


def test_the_gauge_is_summed_over_endpoints() -> None:
    """No other name counts, and a page without it is none held."""
    assert gauge(PAGE) == 12_000
    assert gauge("") == 0


async def test_waiting_for_the_gauge(admin: int) -> None:
    """It returns at the count, and says what it saw instead when that does not come."""
    await until_gauge(admin, 12_000)
    with pytest.raises(TimeoutError, match="12000 requests are held after 0 s, not 5"):
        await until_gauge(admin, 5, timeout=0)


async def test_waiting_for_a_process_at_rest() -> None:
    """Processor time that stands still is rest; time that goes on is not."""
    await until_quiet(lambda: 7, window=0.01)
    clock = count(0, 10_000)
    with pytest.raises(TimeoutError, match="still busy"):
        await until_quiet(lambda: next(clock), timeout=0.05, window=0.01)


async def test_what_answers_does_not_hold(tmp_path: Path) -> None:
    """A backend answers; a listener that says nothing holds."""
    port = free_port()
    with running("backend", [str(compiled("backend")), "--port", str(port)], LOAD_CORE, tmp_path) as process:
        process.wait_listening(port)
        with pytest.raises(TimeoutError, match="still answers"):
            await until_holding(port, requests.chat("k"), timeout=0.1, patience=10)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        await until_holding(silent.getsockname()[1], requests.chat("k"), patience=0.05)


def test_a_full_endpoint_refuses_everybody() -> None:
    """Anything but 429 is no result."""
    line = Bounded(1000, 50 * 2**20, 51 * 2**20, load_of({429: 1234})).checked().line()
    assert "1,234 more" in line and "50.0 MiB before, 51.0 MiB after" in line
    for load in (load_of({429: 3, 200: 1}), load_of({429: 3}, failed=1), load_of({})):
        with pytest.raises(LoadFailed, match="a full endpoint"):
            Bounded(1000, 1, 1, load).checked()


def test_the_result_has_the_agreed_keys() -> None:
    """Medians over the rounds, milliseconds after the address."""
    ours, knative = Outcome(), Outcome()
    ours.keeps(12_000, 59_995_200, load_of({200: 11_998, 502: 2}, failed=1))
    for last in (9_000, 12_000, 90_000):
        ours.released(load_of({200: 200}, first=3_000, last=last), appeared_us=1_000)
        knative.released(load_of({200: 200}, first=5_000, last=2 * last), appeared_us=1_000)
    said = result({"ours": ours, "knative": knative})
    assert said == {
        "held": 12_000,
        "bytes_per_held": 5000,
        "first_ms": 2.0,
        "last_ms": 11.0,
        "knative_bytes_per_held": None,
        "knative_first_ms": 4.0,
        "knative_last_ms": 23.0,
        "council_bytes_per_held": None,
        "council_first_ms": None,
        "council_last_ms": None,
    }
    assert result({"ours": ours, "knative": knative, "council": ours})["council_bytes_per_held"] == 5000
    text = table({"ours": ours, "knative": knative})
    assert "12,000" in text and "1 closed, 2 502" in text and "none" in text


def test_the_activator_knows_the_flags(tmp_path: Path) -> None:
    """What the benchmark raises is what the activator reads."""
    given = settings.parse(ours_command(1, 2, **{"usage-dir": tmp_path}, **ROOMY)[3:], {})
    assert given.hold_caps.consumer.requests == given.hold_caps.namespace.requests == 100_000
    assert given.limits.connections == 100_000
