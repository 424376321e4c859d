"""The machine's clock is set while an activator runs: what ends at a time of day ends then, warm or not."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.activator.access.issuer import key_set, rsa
from tests.activator.access.test_jwt import CONFIG_MAP, HELD, call
from tests.activator.replica import Replica
from tests.activator.stack import Stack
from tests.kube.test_clock import Wall
from zerotide.activator.access.trust import Trust
from zerotide.activator.admission.callers import Caller
from zerotide.api.scalars import HOUR, SECOND, format_time
from zerotide.kube import Clock


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """Return the clock of the machine on which the activator runs."""
    made = Wall()
    monkeypatch.setattr("tests.activator.stack.Clock", lambda: Clock(wall_ns=made))
    return made


@pytest.fixture
async def stack(wall: Wall) -> Stack:
    """Return an activator of that machine, which nobody has started."""
    return Stack()


async def test_keys_end_by_the_clock_as_it_is_set(wall: Wall, stack: Stack, replica: Replica) -> None:
    """Forwards and backwards."""
    async with stack:
        await stack.awake(replica)
        until = format_time((wall.now_us() + HOUR) // SECOND * SECOND)
        stack.key("short", expirationTime=until)
        for _ in range(3):
            assert (await stack.post(key="short")).status == 200
        wall.set_us = 2 * HOUR
        for _ in range(2):
            assert (await stack.post(key="short")).code == "invalid_api_key"
        wall.set_us = 0
        assert (await stack.post(key="short")).status == 200


async def test_tokens_end_by_the_clock_as_it_is_set(
    wall: Wall, stack: Stack, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was set back makes nobody believed for longer without a look at the keys."""
    stack.api.config_maps[CONFIG_MAP] = {"jwks.json": key_set(rsa())}
    async with stack:
        stack.endpoint(access=HELD)
        await stack.awake(replica, access=HELD)
        token = rsa().sign(exp=wall.now_us() // SECOND + 3600)
        for _ in range(3):
            assert (await call(stack, token)).status == 200
        wall.set_us = 2 * HOUR
        assert (await call(stack, token)).status == 401
        wall.set_us = 0
        assert (await call(stack, token)).status == 200
        wall.set_us = -2 * HOUR
        asked = Counter[int]()
        recall = stack.registry.tokens.recall

        def counted(text: str, trust: Trust, now_us: int) -> Caller | None:
            asked[now_us] += 1
            return recall(text, trust, now_us)

        monkeypatch.setattr(stack.registry.tokens, "recall", counted)
        for _ in range(3):
            assert (await call(stack, token)).status == 200
        assert asked.total() == 1, "and then it is remembered"
