"""The four loads, sent to every peer in turn, round after round."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.wire import requests
from bench.wire.load import Generator, Load
from bench.wire.peers import Peer
from bench.wire.programs import say

CLOSED_CONNECTIONS = 32
PACED_CONNECTIONS = 64
RATE = 500
STREAMS = 1000
STREAM_INTERVALS_US = {"streams 50k": 20_000, "streams full": 5_000}
"""A thousand streams with an event every 20 ms are 50,000 events a second; every 5 ms is more than anybody can do."""
EVENTS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """How much is sent; times in seconds."""

    rounds: int = 5
    seconds: float = 4.0
    warm: float = 1.0
    headers: tuple[str, ...] = requests.OPENAI


@dataclass
class Figures:
    """What one peer has shown, a load for each round."""

    closed: list[Load] = field(default_factory=list)
    paced: list[Load] = field(default_factory=list)
    streams: dict[str, list[Load]] = field(default_factory=dict)

    def add(self, what: str, load: Load) -> None:
        """Keep the load of a round."""
        kept = {"closed loop": self.closed, "500 a second": self.paced}
        kept[what].append(load) if what in kept else self.streams.setdefault(what, []).append(load)


def closed(generator: Generator, peer: Peer, plan: Plan) -> Load:
    """Send as much as the peer takes over a few connections."""
    request = requests.chat(peer.key, headers=plan.headers)
    options = {"connections": CLOSED_CONNECTIONS, "warm": plan.warm, "seconds": plan.seconds}
    return generator.run("closed", peer.port, request, peer.cpu_us, **options).all_well(peer.name)


def paced(generator: Generator, peer: Peer, plan: Plan) -> Load:
    """Send 500 requests a second by the clock."""
    request = requests.chat(peer.key, headers=plan.headers)
    options = {"connections": PACED_CONNECTIONS, "warm": plan.warm, "seconds": plan.seconds, "rate": RATE}
    return generator.run("paced", peer.port, request, peer.cpu_us, **options).all_well(peer.name)


def streamed(generator: Generator, peer: Peer, plan: Plan, interval_us: int) -> Load:
    """Read a thousand streams at once."""
    request = requests.stream(peer.key, EVENTS, interval_us)
    options = {"connections": STREAMS, "warm": plan.warm + 1, "seconds": plan.seconds}
    return generator.run("streams", peer.port, request, peer.cpu_us, **options).all_well(peer.name)


def measure(program: Path, folder: Path, peers: list[Peer], plan: Plan, *, streams: bool = True) -> dict[str, Figures]:
    """Send every load to every peer, interleaved, and return what each has shown. Raises LoadFailed."""
    generator = Generator(program, folder)
    figures = {peer.name: Figures() for peer in peers}
    loads: dict[str, Callable[[Peer], Load]] = {
        "closed loop": partial(closed, generator, plan=plan),
        "500 a second": partial(paced, generator, plan=plan),
    }
    for step, interval in STREAM_INTERVALS_US.items() if streams else ():
        loads[step] = partial(streamed, generator, plan=plan, interval_us=interval)
    for number in range(plan.rounds):
        for peer in peers:
            for what, send in loads.items():
                load = send(peer)
                figures[peer.name].add(what, load)
                say(f"  round {number + 1}  {peer.name:10}{what:14}{told(load)}")
    return figures


def told(load: Load) -> str:
    """Return a load in a few words, for the progress."""
    if load.events:
        return f"{load.events / load.seconds:10,.0f} events/s   p50 {load.delay.p50:>7} us on their way"
    return f"{load.rate:10,.0f} answers/s  p50 {load.latency.p50:>7} us"


def median(values: list[float]) -> float:
    """Return the median; 0 of nothing."""
    return statistics.median(values) if values else 0.0
