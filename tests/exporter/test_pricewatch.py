"""The cluster's price book replaces the price file, grows while the exporter runs, and never breaks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0
from tests.exporter.fakeapi import FakeApi
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.exporter.pricewatch import PriceWatch
from zerotide.kube import Client

FILE = index(gpu("1", "from-the-file"))


def book(*prices: dict[str, Any], name: str = "default", **spec: Any) -> dict[str, Any]:
    """Return a PriceBook object."""
    return {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "PriceBook",
        "metadata": {"name": name, "uid": name},
        "spec": {"currency": "USD", "prices": list(prices), **spec},
    }


@pytest.fixture
async def watch(api: FakeApi, client: Client) -> AsyncIterator[PriceWatch]:
    """Follow the book `default`."""
    watch = PriceWatch(client, "default", FILE)
    task = asyncio.create_task(watch.reflector.run())
    await watch.reflector.synced.wait()
    yield watch
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def held(prices: PriceIndex) -> str:
    """Return the name of the A100's price at T0."""
    price = prices.at(Meter.ACCELERATOR_TIME, "nvidia-a100-80gb", T0)
    return price.name if price else ""


async def seen(api: FakeApi, watch: PriceWatch, version: str) -> None:
    """Wait until the watch has taken a version in, or the deletion that `version` "" stands for."""
    async with asyncio.timeout(30):
        while True:
            obj = watch.reflector.store.get(("", "default"))
            if (obj["metadata"]["resourceVersion"] if obj else "") == version:
                return
            await asyncio.sleep(0.01)


async def test_a_book_replaces_the_file_and_may_grow(api: FakeApi, watch: PriceWatch) -> None:
    assert held(watch.current()) == "from-the-file"
    await api.put("pricebooks", book(gpu("9", "not-ours"), name="other"))
    made = await api.put("pricebooks", book(gpu("2", "first")))
    await seen(api, watch, made["metadata"]["resourceVersion"])
    assert held(watch.current()) == "first"
    made = await api.put("pricebooks", book(gpu("2", "first"), gpu("3", "second", T0)))
    await seen(api, watch, made["metadata"]["resourceVersion"])
    assert held(watch.current()) == "second"


async def test_a_book_that_cannot_be_used_changes_nothing(api: FakeApi, watch: PriceWatch) -> None:
    made = await api.put("pricebooks", book(gpu("2", "first")))
    await seen(api, watch, made["metadata"]["resourceVersion"])
    for broken in (book(gpu("2", "first"), gpu("3", "clash")), book(gpu("a lot"))):
        made = await api.put("pricebooks", broken)
        await seen(api, watch, made["metadata"]["resourceVersion"])
        assert held(watch.current()) == "first"


async def test_without_its_book_the_file_holds_again(api: FakeApi, watch: PriceWatch) -> None:
    made = await api.put("pricebooks", book(gpu("2", "first")))
    await seen(api, watch, made["metadata"]["resourceVersion"])
    await api.drop("pricebooks", "", "default")
    await seen(api, watch, "")
    assert held(watch.current()) == "from-the-file"
