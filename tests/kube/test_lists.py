"""Lists in parts, between which others have their turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zerotide.kube import Client, Credentials
from zerotide.kube.client import TOGETHER
from zerotide.kube.encoding import encode
from zerotide.kube.resources import PODS


async def test_a_long_list_leaves_the_event_loop_to_others_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes thousands in must not keep a wake waiting; every object comes once, in order."""
    pages: dict[str, list[int]] = {"": list(range(2 * TOGETHER + 1)), "next": list(range(1000, 1003)), "last": []}
    following = {"": "next", "next": "last"}

    async def answer(_: str, __: str, *, params: dict[str, str]) -> bytes:
        asked = params.get("continue", "")
        metadata = {"resourceVersion": "7", "continue": following.get(asked, "")}
        return encode({"metadata": metadata, "items": [{"metadata": {"name": f"n{each}"}} for each in pages[asked]]})

    client = Client(Credentials("http://127.0.0.1:1", None))
    monkeypatch.setattr(client, "_answer", answer)
    turns = [0]

    async def listen() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    names: list[Any] = []
    heard = []
    async for page in client.pages(PODS):
        assert page.resource_version == "7"
        part = [item["metadata"]["name"] for item in page.items]
        assert len(part) <= TOGETHER
        names += part
        heard.append(turns[0])
    listening.cancel()
    assert names == [f"n{each}" for page in pages.values() for each in page]
    assert len(heard) == len(set(heard)) == 5
