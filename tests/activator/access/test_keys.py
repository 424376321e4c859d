"""When keys are read: by a clock that is set by hand, from a source that fails when it is told to."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.activator.access.issuer import ec, key_set, rsa
from zerotide.activator.access.keys import GAP, LAST_RETRY, LONGEST_KEPT, REFRESH, Keys
from zerotide.activator.access.trust import KeysUrl, Source
from zerotide.activator.failures import KeysMissing, KeysUnreachable


class World:
    """A source and a clock."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.text = key_set(rsa()).encode()
        self.failure: Exception | None = None
        self.reading = 0
        self.most = 0
        self.told: Counter[str] = Counter()
        self.keys = Keys(KeysUrl("https://issuer.example"), self.load, lambda: self.time, self.hear)

    async def load(self, source: Source) -> bytes:
        """Read the source."""
        self.reading += 1
        self.most = max(self.most, self.reading)
        await asyncio.sleep(0)
        self.reading -= 1
        if self.failure is not None:
            raise self.failure
        return self.text

    def hear(self, outcome: str) -> None:
        """Count an outcome."""
        self.told[outcome] += 1

    async def settled(self) -> int:
        """Return how often the source was read, once nothing is being read."""
        await self.keys.ready()
        return self.told.total()


async def test_keys_are_read_when_they_are_asked_for() -> None:
    """Once, however many ask; and again when they are no longer fresh."""
    world = World()
    assert world.told.total() == 0
    assert [world.keys.current() for _ in range(5)] == [None] * 5
    assert await world.settled() == 1
    first = world.keys.current()
    assert first is not None
    world.time += REFRESH[False] - 1
    assert world.keys.current() is first and await world.settled() == 1
    world.time += 1
    assert world.keys.current() is first
    assert await world.settled() == 2
    assert world.keys.current() is first  # nothing changed: what was proven by it stays so
    world.text = key_set(ec()).encode()
    world.time += REFRESH[False]
    world.keys.current()
    assert await world.settled() == 3
    assert world.keys.current() not in (None, first)
    assert world.most == 1


async def test_keys_that_nobody_asked_for_in_a_long_while() -> None:
    """They are worth waiting for, but not where their source fails: then the last good ones serve."""
    world = World()
    assert not world.keys.overdue()
    world.keys.current()
    await world.settled()
    for pause, overdue in ((REFRESH[False], False), (REFRESH[False] * 3, True)):
        world.time += pause
        assert world.keys.current() is not None
        assert world.keys.overdue() is overdue
        await world.settled()
        assert not world.keys.overdue()
    world.failure = KeysUnreachable("no")
    world.time += REFRESH[False] * 3
    world.keys.current()
    assert world.keys.overdue()
    await world.settled()
    world.time += LAST_RETRY
    assert world.keys.current() is not None and not world.keys.overdue()


async def test_unknown_keys_are_looked_for_at_a_bounded_rate() -> None:
    """A flood of tokens with keys that do not exist reads the source once in ten seconds."""
    world = World()
    world.keys.current()
    await world.settled()
    for second in range(60):
        for _ in range(10):
            world.keys.look_again()
        await world.settled()
        world.time += 1
        assert world.told.total() <= 2 + second // GAP
    assert world.told.total() >= 5


async def test_a_source_that_fails_is_asked_less_and_less() -> None:
    """And at once again, at the pace of all, when it is back."""
    world = World()
    world.failure = KeysUnreachable("no")
    for _ in range(600):
        assert world.keys.current() is None
        world.keys.look_again()
        await world.settled()
        world.time += 1
    assert 600 / LAST_RETRY <= world.told["failed"] <= 600 / LAST_RETRY + 6
    world.failure = None
    world.time += LAST_RETRY
    world.keys.current()
    await world.settled()
    assert world.keys.current() is not None
    world.time += GAP - 1
    assert not world.keys.look_again()


@pytest.mark.parametrize("failure", [KeysUnreachable("no"), RuntimeError("a bug of ours")])
async def test_the_last_good_keys_are_kept(failure: Exception) -> None:
    """While their source cannot be read; but not for ever, since a key may have been withdrawn meanwhile."""
    world = World()
    world.keys.current()
    await world.settled()
    kept = world.keys.current()
    world.failure = failure
    world.time += LONGEST_KEPT - 1
    assert world.keys.current() is kept
    assert await world.settled() == 2
    world.time += 1
    assert world.keys.current() is None
    world.failure = None
    await world.settled()
    world.time += LAST_RETRY
    world.keys.current()
    await world.settled()
    assert world.keys.current() is kept


@pytest.mark.parametrize("how", ["gone", "emptied"])
async def test_withdrawn_keys_are_not_kept(how: str) -> None:
    """A source that says itself that there are none is believed at once."""
    world = World()
    world.keys.current()
    await world.settled()
    world.failure = KeysMissing("gone") if how == "gone" else None
    world.text = b'{"keys":[]}'
    world.time += REFRESH[False]
    world.keys.current()
    await world.settled()
    assert world.keys.current() is None


async def test_a_text_that_is_no_key_set_withdraws_nothing() -> None:
    """An error page with status 200 is a failure of the source."""
    world = World()
    world.keys.current()
    await world.settled()
    world.text = b"<html>try again later</html>"
    world.time += REFRESH[False]
    world.keys.current()
    assert await world.settled() == 2
    assert world.keys.current() is not None and world.told["failed"] == 1
