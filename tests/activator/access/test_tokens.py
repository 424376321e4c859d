"""What is remembered of tokens never opens more than their keys and their time allow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import PyJWS, PyJWT

from tests.activator.access.issuer import Key, ec, ed, key_set, rsa
from tests.activator.access.test_token import TRUST
from zerotide.activator.access import tokens as module
from zerotide.activator.access.keys import GAP, OVERDUE, REFRESH
from zerotide.activator.access.token import LEEWAY_US
from zerotide.activator.access.tokens import Tokens
from zerotide.activator.access.trust import KeysUrl, Source, Trust
from zerotide.activator.admission.callers import Caller
from zerotide.activator.failures import KeysAwaited
from zerotide.api.scalars import SECOND

KEYS = (rsa(), ec(), ed())
START, ENDS = 2_000_000_000, (600, 3000)
HORIZON = REFRESH[False] + OVERDUE
"""Seconds after which a withdrawn key opens nothing, however it was asked for."""


@cache
def token(key: Key, end: int) -> str:
    """Return a token that ends some seconds after the start."""
    return key.sign(exp=START + end)


class World:
    """An issuer that publishes one set after the other, and a clock."""

    def __init__(self) -> None:
        self.time = float(START)
        self.published: list[tuple[float, frozenset[Key]]] = [(0.0, frozenset(KEYS))]
        self.tokens = Tokens(lambda: self.time)
        self.tokens.load = self.load

    async def load(self, source: Source) -> bytes:
        """Read what is published now."""
        return key_set(*self.published[-1][1]).encode()

    async def find(self, text: str, trust: Trust = TRUST) -> Caller | None:
        """Ask who calls, with the patience that a request has."""
        now_us = round(self.time * SECOND)
        try:
            return self.tokens.find(text, trust, now_us, patient=True)
        except KeysAwaited as awaited:
            await awaited.ready()
        return self.tokens.find(text, trust, now_us, patient=False)

    def was_published(self, key: Key, seconds: float, every: Callable[[list[bool]], bool]) -> bool:
        """Tell whether a key was published, at all or throughout, in the last seconds."""
        since = self.time - seconds
        ends = [begin for begin, _ in self.published[1:]] + [float("inf")]
        return every([key in keys for (_, keys), end in zip(self.published, ends, strict=True) if end > since])


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 5.0, 11.0, 59.0, 61.0, 299.0, 301.0, 359.0, 361.0, 700.0]),
        st.none() | st.frozensets(st.sampled_from(KEYS), min_size=1),
        st.sampled_from(KEYS),
        st.sampled_from(ENDS),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(STEPS)
def test_memory_opens_nothing_by_itself(steps: list[tuple[float, frozenset[Key] | None, Key, int]]) -> None:
    """Whatever is published and asked, and when: no token outlives its end, or its key by more than the horizon.

    And one whose key has been published for longer than the pause between looks is taken.
    """

    async def play() -> None:
        world = World()
        for pause, publish, key, end in steps:
            world.time += pause
            if publish is not None:
                world.published.append((world.time, publish))
            caller = await world.find(token(key, end))
            in_time = world.time < START + end + LEEWAY_US / SECOND
            if caller is not None:
                assert in_time and world.was_published(key, HORIZON, any)
                assert caller.until_us is not None
                assert world.time * SECOND < caller.until_us <= (START + end) * SECOND + LEEWAY_US
                assert (caller.consumer, caller.namespace) == ("demo/team-a", "demo")
            elif in_time:
                assert not world.was_published(key, GAP, all)
        world.tokens.close()

    asyncio.run(play())


async def test_a_token_is_remembered_for_each_trust() -> None:
    """What one endpoint's issuer proves, proves nothing to another one's."""
    world = World()
    text = token(ec(), 600)
    assert await world.find(text) is not None
    elsewhere = Trust("other", TRUST.issuer, TRUST.audiences, TRUST.source, "iss")
    for trust in (
        Trust("demo", "https://other.example", TRUST.audiences, TRUST.source, "sub"),
        Trust("demo", TRUST.issuer, frozenset(("others",)), TRUST.source, "sub"),
        elsewhere,
    ):
        assert world.tokens.recall(text, trust, START * SECOND) is None
        assert await world.find(text, trust) is None
    assert world.tokens.refused == {"issuer": 1, "audience": 1, "consumer": 1}


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, and proven again when it comes back."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    world = World()
    texts = [ed().sign(exp=START + 600, sub=f"s{number}") for number in range(3)]
    for text in texts:
        assert await world.find(text) is not None
    now_us = START * SECOND
    assert [world.tokens.recall(text, TRUST, now_us) is not None for text in texts] == [False, True, True]
    assert await world.find(texts[0]) is not None


async def test_keys_are_shared_by_those_who_name_one_place() -> None:
    """Two namespaces that trust one issuer read its keys once; another place is another reading."""
    world = World()
    for namespace in ("demo", "other"):
        trust = Trust(namespace, TRUST.issuer, TRUST.audiences, KeysUrl("https://a/keys"), "sub")
        found = await world.find(token(rsa(), 600), trust)
        assert found is not None and found.consumer == f"{namespace}/team-a"
    assert world.tokens.loads == {"loaded": 1}
    await world.find(token(rsa(), 600), Trust("demo", TRUST.issuer, TRUST.audiences, KeysUrl("https://b/keys"), "sub"))
    assert world.tokens.loads == {"loaded": 2}


async def test_a_new_token_is_hashed_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proven is remembered by the digest by which it was looked for, and checked as it was read."""
    world = World()
    assert await world.find(token(rsa(), 600)) is not None
    done: list[str] = []

    def counted(where: object, name: str) -> None:
        real = getattr(where, name)

        def call(*given: Any, **named: Any) -> Any:
            done.append(name)
            return real(*given, **named)

        monkeypatch.setattr(where, name, call)

    counted(module, "_mark")
    counted(PyJWS, "decode_complete")
    counted(PyJWT, "decode_complete")
    assert await world.find(token(ec(), 600)) is not None
    assert done == ["_mark", "decode_complete"]
