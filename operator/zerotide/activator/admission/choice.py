"""Which replica a request goes to, among those that have room for it.

The one with the fewest requests, unless the request has an affinity: then the one that rendezvous hashing puts first
for it, passing over those whose load is beyond a multiple of the mean (consistent hashing with bounded loads). Whether
any replica has room does not depend on the affinity, so nobody waits for a favourite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

_MASK = (1 << 64) - 1


class Place(Protocol):
    """A replica as the choice sees it."""

    @property
    def key(self) -> str:
        """Return what names the replica."""

    @property
    def in_flight(self) -> int:
        """Return how many requests it serves now."""


P = TypeVar("P", bound=Place)
Choose = Callable[[Collection[P], int, int], P | None]
"""Of these replicas, with a limit of requests for each (0: none) and an affinity (0: none), the one to take."""


def least_in_flight(places: Collection[P], limit: int, affinity: int = 0) -> P | None:
    """Return the replica with the fewest requests, None where all are at the limit."""
    best = min(places, key=_in_flight, default=None)
    return None if best is None or (limit and best.in_flight >= limit) else best


@dataclass(frozen=True, slots=True)
class Bounded:
    """A choice by affinity that gives no replica more than `percent` of the mean load, rounded up."""

    percent: int

    def __call__(self, places: Collection[P], limit: int, affinity: int) -> P | None:
        """Return the replica that the affinity prefers, None where all are at the limit."""
        if not affinity or len(places) < 2:
            return least_in_flight(places, limit)
        most = capacity(sum(map(_in_flight, places)), len(places), self.percent)
        if limit:
            most = min(most, limit)
        roomy = (place for place in places if place.in_flight < most)
        return max(roomy, key=lambda place: score(affinity, place.key), default=None)


def capacity(in_flight: int, replicas: int, percent: int) -> int:
    """Return how many requests a replica may have once there is one more; at 100 % and more, one has room for it."""
    return -(-percent * (in_flight + 1) // (100 * replicas))


def affinity_of(what: bytes) -> int:
    """Return the affinity of requests that share `what`; never 0."""
    return int.from_bytes(hashlib.blake2b(what, digest_size=8).digest()) or 1


def score(affinity: int, key: str) -> int:
    """Return how much a replica is preferred: a fixed and even order of all replicas for each affinity."""
    mixed = (affinity ^ _salt(key)) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 31) * 0x94D049BB133111EB & _MASK
    return mixed ^ mixed >> 31


@lru_cache(maxsize=4096)
def _salt(key: str) -> int:
    return affinity_of(key.encode())


def _in_flight(place: Place) -> int:
    return place.in_flight
