"""The laws of choosing a replica."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given

from zerotide.activator.admission.affinity import Routing, affinity, prompt_prefix
from zerotide.activator.admission.choice import Bounded, affinity_of, capacity, least_in_flight, score


@dataclass
class Place:
    """A replica."""

    key: str
    in_flight: int = 0


KEYS = st.lists(st.uuids().map(str), min_size=1, max_size=12, unique=True)
LOADS = st.lists(st.integers(0, 40), min_size=1, max_size=12)
PERCENT = st.integers(100, 1000)
AFFINITY = st.integers(1, 2**64 - 1)
LIMIT = st.integers(0, 20)


def places(loads: list[int]) -> list[Place]:
    """Make replicas with so many requests each."""
    return [Place(f"pod-{number}", load) for number, load in enumerate(loads)]


@given(LOADS, LIMIT)
def test_least_in_flight_takes_a_minimum(loads: list[int], limit: int) -> None:
    """The one with the fewest, and none where even that one is at the limit."""
    chosen = least_in_flight(places(loads), limit)
    if limit and min(loads) >= limit:
        assert chosen is None
    else:
        assert chosen is not None
        assert chosen.in_flight == min(loads)


@given(LOADS, LIMIT, PERCENT, AFFINITY)
def test_an_affinity_never_makes_anybody_wait(loads: list[int], limit: int, percent: int, key: int) -> None:
    """There is a replica with an affinity exactly where there is one without."""
    found = Bounded(percent)(places(loads), limit, key)
    assert (found is None) is (least_in_flight(places(loads), limit) is None)


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=150), st.integers(2, 8), LIMIT, PERCENT)
def test_the_load_is_bounded(steps: list[tuple[int, bool]], replicas: int, limit: int, percent: int) -> None:
    """Whatever comes and goes, nobody is sent to a replica beyond the multiple of the mean, nor beyond the limit."""
    all_places = places([0] * replicas)
    choose, going = Bounded(percent), list[Place]()
    for key, comes in steps:
        if comes or not going:
            chosen = choose(all_places, limit, key)
            if chosen is None:
                continue
            total = sum(place.in_flight for place in all_places)
            chosen.in_flight += 1
            going.append(chosen)
            assert chosen.in_flight <= capacity(total, replicas, percent)
            assert chosen.in_flight * replicas * 100 < percent * (total + 1) + replicas * 100
            assert not limit or chosen.in_flight <= limit
        else:
            going.pop(key % len(going)).in_flight -= 1


@given(KEYS, AFFINITY, PERCENT)
def test_one_affinity_one_replica(keys: list[str], key: int, percent: int) -> None:
    """While it has room, always the same, whatever the order in which replicas are known."""
    choose = Bounded(percent)
    first = choose([Place(each) for each in keys], 0, key)
    assert first is not None
    again = choose([Place(each) for each in reversed(keys)], 0, key)
    assert again is not None
    assert again.key == first.key
    busy = [Place(each, 0 if each == first.key else 3) for each in keys]
    assert choose(busy, 0, key) is busy[keys.index(first.key)]


@given(KEYS.filter(lambda keys: len(keys) > 1), st.lists(AFFINITY, min_size=1, max_size=20))
def test_least_disruption(keys: list[str], affinities: list[int]) -> None:
    """A replica that leaves moves only its own; one that joins takes only what is its own from now on."""
    *stay, leaves = keys
    for key in affinities:
        before, after = (max(some, key=lambda each: score(key, each)) for some in (keys, stay))
        assert after == before or before == leaves


def test_affinities_spread_evenly() -> None:
    """Each of eight replicas gets its eighth of many affinities, and each inherits its part when one leaves."""
    keys = [f"9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb{number:02d}" for number in range(8)]
    affinities = [affinity_of(b"conversation %d" % number) for number in range(8000)]
    firsts = [max(keys, key=lambda each: score(key, each)) for key in affinities]
    assert all(850 < count < 1150 for count in Counter(firsts).values())
    orphans = [key for key, first in zip(affinities, firsts, strict=True) if first == keys[0]]
    heirs = Counter(max(keys[1:], key=lambda each: score(key, each)) for key in orphans)
    assert len(heirs) == 7
    assert all(count > 90 for count in heirs.values())


def test_the_overflow_goes_to_one_other_replica() -> None:
    """Beyond the bound an affinity has a second choice that is as fixed as the first."""
    choose = Bounded(100)
    all_places = places([2, 2, 2, 2])
    first = choose(all_places, 0, 7)
    assert first is not None
    first.in_flight = 3
    second = choose(all_places, 0, 7)
    assert second is not None
    assert second is not first
    assert choose(all_places, 0, 7) is second


@pytest.mark.parametrize(
    ("path", "body", "prefix"),
    [
        ("/v1/chat/completions", b'{"model":"m","messages" : [{"role":"user","content":"hi"}]}', b'[{"role":"user",'),
        ("/v1/completions", b'{"prompt":"once upon a time there was"}', b'"once upon a tim'),
        ("/generate", b'{ "inputs" :\n "x"}', b'"x"}'),
        ("/v1/chat/completions", b'{"tools":[{"name":"messages"}],"messages":[1]}', b"[1]}"),
        ("/v1/chat/completions", b'{"model":"m"}', b""),
        ("/v1/images/generations", b"\x00\xff", b""),
    ],
)
def test_the_beginning_of_a_prompt(path: str, body: bytes, prefix: bytes) -> None:
    """It is found by name, as it is written."""
    assert prompt_prefix(path, body, 16) == prefix


def test_what_makes_requests_alike() -> None:
    """A sticky header comes first; else prompts that begin alike are alike; without either nothing is."""
    chat = "/v1/chat/completions"
    one, two = (b'{"messages":[{"content":"the same beginning, %d"}]}' % number for number in (1, 2))

    def sticky(name: bytes) -> str:
        return {b"x-session-id": "s"}.get(name, "")

    def none(name: bytes) -> str:
        return ""

    both = Routing(20, 125, b"x-session-id")
    assert affinity(both, sticky, chat, one) == affinity(both, sticky, chat, b"{}") == affinity_of(b"hs")
    assert affinity(both, none, chat, one) == affinity(both, none, chat, two) != 0
    assert affinity(both, none, chat, one) != affinity(Routing(64), none, chat, one)
    assert affinity(Routing(64), none, chat, one) != affinity(Routing(64), none, chat, two)
    assert affinity(both, none, chat, b"{}") == 0
    assert not Routing().by_affinity
    assert affinity(Routing(0, 125, b"x-session-id"), none, chat, one) == 0
