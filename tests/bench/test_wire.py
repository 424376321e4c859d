"""The wire benchmark's own parts: its backend and generator on loopback, and what it makes of their figures."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.wire import requests
from bench.wire.load import Generator, Load, LoadFailed, Spread
from bench.wire.measure import STREAM_INTERVALS_US, Figures
from bench.wire.peers import alone, bare
from bench.wire.processes import LOAD_CORE, NotServing, free_port, running, tree
from bench.wire.programs import compiled
from bench.wire.table import quantile, ratios, result, rows, table


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run the backend."""
    port = free_port()
    command = [str(compiled("backend")), "--port", str(port)]
    with running("backend", command, LOAD_CORE, tmp_path_factory.mktemp("backend")) as process:
        process.wait_listening(port)
        yield port


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    """Have a generator."""
    return Generator(compiled("load"), tmp_path)


def run(generator: Generator, mode: str, port: int, request: bytes, **options: object) -> Load:
    """Run it with no process to measure."""
    return generator.run(mode, port, request, lambda: 0, **options)


def test_a_closed_loop_counts_whole_answers(generator: Generator, backend: int) -> None:
    """Every answer is 200, and as many latencies were taken."""
    load = run(generator, "closed", backend, requests.chat("k"), connections=4, warm=0.1, seconds=0.3).all_well("me")
    assert load.answered == load.statuses[200] == load.latency.count > 100
    assert load.seconds >= 0.3


def test_paced_requests_keep_to_the_clock(generator: Generator, backend: int) -> None:
    """At 200 a second no more come than were due, each with its latency; on a busy machine fewer."""
    load = run(generator, "paced", backend, requests.chat("k"), connections=8, warm=0.1, seconds=0.5, rate=200)
    assert 10 <= load.answered <= 200 * (load.seconds + 0.1) + 10
    assert len(load.raw) == load.answered


def test_a_stall_is_seen_by_every_request_that_was_due(generator: Generator, tmp_path: Path) -> None:
    """A server that stands still for 0.3 s delays all of that time's requests, not one: no omission."""
    port = free_port()
    with running("backend", [str(compiled("backend")), "--port", str(port)], LOAD_CORE, tmp_path) as process:
        process.wait_listening(port)
        flags = {"connections": 2, "warm": 0.1, "seconds": 2, "rate": 100}
        client = generator.start("paced", port, requests.chat("k"), **flags)
        assert client.stdout is not None
        client.stdout.readline()
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        process.process.send_signal(signal.SIGCONT)
        raw = json.loads(client.stdout.readline())["raw"]
        client.wait()
        client.stdout.close()
    assert sum(latency > 50_000 for latency in raw) >= 15


def test_ours_starts_without_a_cluster(generator: Generator, backend: int, tmp_path: Path) -> None:
    """The activator's parts, with objects put in by hand, answer what the quick benchmark sends, and are measured."""
    with alone(tmp_path, backend) as peer:
        load = run(generator, "closed", peer.port, requests.chat(peer.key), connections=2, warm=0.1, seconds=0.2)
        assert load.all_well("ours").answered > 0
        assert peer.cpu_us() > 0


def test_streams_bring_the_events_that_were_asked_for(generator: Generator, backend: int) -> None:
    """Twenty streams of an event every 10 ms are 2,000 a second at most, and each says how long it was on its way."""
    request = requests.stream("k", 1000, 10_000)
    load = run(generator, "streams", backend, request, connections=20, warm=0.2, seconds=0.5)
    assert load.streams == 20
    assert 50 <= load.events <= 2000 * (load.seconds + 0.3) + 100
    assert load.delay.count > 0


def test_a_stream_ends_whole(generator: Generator, backend: int) -> None:
    """Five events, the usage and [DONE]; then the connection is used again."""
    load = run(generator, "streams", backend, requests.stream("k", 5, 0), connections=1, warm=0, seconds=0.2)
    assert load.answered > 1
    assert load.failed == 0
    assert abs(load.events - 7 * load.answered) < 14


def test_held_ends_when_all_are_answered(generator: Generator, backend: int) -> None:
    """A hundred connections, one request each."""
    load = run(generator, "held", backend, requests.chat("k"), connections=100, seconds=5)
    assert load.answered == load.statuses[200] == 100
    assert load.first_us <= load.last_us


def test_other_answers_are_no_result(generator: Generator) -> None:
    """A load of refusals is refused, with the first of them."""
    bad = Load(1.0, 5, 1, 0, {401: 5}, Spread(), Spread(), 0, 0, 0, 0, "HTTP/1.1 401 Unauthorized")
    with pytest.raises(LoadFailed, match="401 Unauthorized"):
        bad.all_well("ours")
    with pytest.raises(LoadFailed, match="ended with 2"):
        run(generator, "nonsense", 1, b"")


def test_a_process_that_does_not_serve_says_why(tmp_path: Path) -> None:
    """Its last words are in the error, and it is gone."""
    command = ["sh", "-c", "echo no such thing; exit 3"]
    with pytest.raises(NotServing, match="no such thing"), running("it", command, "0", tmp_path) as process:
        process.process.wait()
        process.wait_listening(free_port())


def test_a_process_is_measured_with_its_children(tmp_path: Path) -> None:
    """What a child burns counts."""
    command = ["sh", "-c", "(while :; do :; done) & wait"]
    with running("it", command, "0", tmp_path) as process:
        deadline = time.monotonic() + 10
        while process.cpu_us() < 50_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.cpu_us() >= 50_000
        child = tree(process.process.pid)[1:]
        assert len(child) == 1
        assert process.rss() > 0
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{child[0]}").exists()


def test_the_bare_relay_relays(generator: Generator, backend: int, tmp_path: Path) -> None:
    """Whole answers and streams pass, over connections that are kept."""
    with bare(tmp_path, "127.0.0.1", backend) as peer:
        chat = run(generator, "closed", peer.port, requests.chat("k"), connections=4, warm=0.1, seconds=0.3)
        assert chat.all_well("bare").answered > 10
        stream = requests.stream("k", 1_000_000, 1_000)
        streams = run(generator, "streams", peer.port, stream, connections=4, warm=0.1, seconds=0.3)
        assert streams.all_well("bare").events > 10
        assert peer.cpu_us() > 0


def load_of(rate: int, cpu_us: int, raw: list[int], events: int = 0) -> Load:
    """Return a load of one second."""
    return Load(
        1.0, rate, 0, events, {200: rate}, Spread(), Spread(10, 1000, 2000, 3000, 4000), cpu_us, 9, 0, 0, "", raw
    )


def figures(rate: int, cpu_us: int, raw: list[int]) -> Figures:
    """Return figures of one round."""
    streams = {step: [load_of(0, 500_000, [], 100_000)] for step in STREAM_INTERVALS_US}
    return Figures([load_of(rate, cpu_us, [])], [load_of(500, 50_000, raw)], streams)


def test_the_table_and_the_result() -> None:
    """What is added is over the direct way of the same run; who took no part is null, and named."""
    by_peer = rows({"direct": figures(90_000, 0, [100, 100, 200]), "ours": figures(10_000, 900_000, [300, 350, 900])})
    said = result(by_peer)
    assert said["ours_rps"] == 10_000 and said["direct_rps"] == 90_000 and said["knative_rps"] is None
    assert said["ours_cpu_us"] == 90.0 and said["knative_cpu_us"] is None
    assert said["ours_added_p50_ms"] == 0.25
    assert said["ours_added_p99_ms"] == 0.7
    assert said["sse_chunks_per_s"] == 100_000
    rates = {f"{peer}_rps" for peer in ("ours", "knative", "haproxy", "direct", "bare")}
    added = {"ours_added_p50_ms", "ours_added_p99_ms", "knative_added_p99_ms"}
    assert set(said) == rates | added | {"ours_cpu_us", "knative_cpu_us", "bare_cpu_us", "sse_chunks_per_s"}
    text = table(by_peer, {"KEDA": "not installed"})
    assert "KEDA" in text and "not installed" in text
    assert "11,111" in text
    twice = rows(
        {"direct": figures(90_000, 0, [1]), "ours": figures(10_000, 900_000, [1]), "bare": figures(1, 45, [1])}
    )
    assert ratios(twice) == "requests per core, ours: 0.50 of bare"
    assert quantile([], 0.5) == 0.0
