"""The client, the mirror, the lease and the reviews against a real API server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from zerotide.kube import (
    AlreadyExists,
    Change,
    Client,
    Conflict,
    Elector,
    Identity,
    Invalid,
    NotFound,
    Notice,
    Recorder,
    Reflector,
    TokenReviewer,
    Unauthorized,
    allowed,
    load_credentials,
)
from zerotide.kube.credentials import Credentials
from zerotide.kube.resources import CONFIG_MAPS, DEPLOYMENTS, EVENTS, LEASES, NAMESPACES, PODS


@pytest.fixture
async def client(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """Open a client with all rights."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    async with Client(await load_credentials()) as opened:
        yield opened


@pytest.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    """Make a namespace of the test's own."""
    name = f"kube-{secrets.token_hex(4)}"
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await client.delete(NAMESPACES, name)


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    """Make a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}, "data": data}


async def test_every_verb(client: Client, namespace: str) -> None:
    """Create, read, list, apply, patch, replace, delete; each refusal has its class."""
    made = await client.create(CONFIG_MAPS, config_map(namespace, "a", x="1"))
    with pytest.raises(AlreadyExists):
        await client.create(CONFIG_MAPS, config_map(namespace, "a"))
    assert (await client.get(CONFIG_MAPS, "a", namespace))["data"] == {"x": "1"}
    applied = await client.apply(CONFIG_MAPS, config_map(namespace, "b", y="2"), "tester")
    again = await client.apply(CONFIG_MAPS, config_map(namespace, "b", y="2"), "tester")
    assert applied["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"], (
        "an identical apply is no write"
    )
    with pytest.raises(Conflict, match="tester"):
        await client.apply(CONFIG_MAPS, config_map(namespace, "b", y="3"), "other", force=False)
    listing = await client.list(CONFIG_MAPS, namespace, field_selector="metadata.name=b")
    assert [item["kind"] for item in listing.items] == ["ConfigMap"] and int(listing.resource_version) > 0
    patched = await client.patch(CONFIG_MAPS, "a", namespace, {"data": {"x": None, "z": "3"}})
    assert patched["data"] == {"z": "3"}
    with pytest.raises(Conflict):
        await client.replace(CONFIG_MAPS, made)
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, "a", namespace, uid="00000000-0000-0000-0000-000000000000")
    await client.delete(CONFIG_MAPS, "a", namespace, uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "a", namespace)
    with pytest.raises(Invalid, match="selector"):
        await client.create(
            DEPLOYMENTS,
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "d"}},
        )


async def test_an_apply_with_the_uid_never_brings_back_the_dead(client: Client, namespace: str) -> None:
    """An object that was deleted meanwhile must not be made again by an old plan."""
    made = await client.create(CONFIG_MAPS, config_map(namespace, "a"))
    await client.delete(CONFIG_MAPS, "a", namespace)
    body = config_map(namespace, "a", x="1")
    body["metadata"]["uid"] = made["metadata"]["uid"]
    with pytest.raises(Conflict):
        await client.apply(CONFIG_MAPS, body, "tester")


async def test_the_mirror_follows_and_pages(client: Client, namespace: str) -> None:
    """More objects than one page holds, then changes and a deletion."""
    names = [f"c{i:03}" for i in range(520)]
    for start in range(0, len(names), 40):
        batch = names[start : start + 40]
        await asyncio.gather(*(client.create(CONFIG_MAPS, config_map(namespace, name)) for name in batch))
    changes: asyncio.Queue[Change] = asyncio.Queue()
    reflector = Reflector(client, CONFIG_MAPS, namespace, on_change=changes.put_nowait)
    running = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 10)
    assert {name for _, name in reflector.store} >= set(names)
    while not changes.empty():
        changes.get_nowait()
    await client.patch(CONFIG_MAPS, "c000", namespace, {"data": {"k": "v"}})
    change = await asyncio.wait_for(changes.get(), 5)
    assert change.type == "set" and change.object["data"] == {"k": "v"} and change.previous is not None
    await client.delete(CONFIG_MAPS, "c001", namespace)
    change = await asyncio.wait_for(changes.get(), 5)
    assert (change.type, change.object["metadata"]["name"]) == ("deleted", "c001")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_one_of_two_holds_the_lease_and_the_other_takes_over(client: Client, namespace: str) -> None:
    """Exactly one leads; when it gives up, the other leads at once; when it goes silent, after the duration."""
    lost: list[str] = []

    def elector(name: str) -> Elector:
        return Elector(client, namespace, "l", name, on_lost=lambda: lost.append(name), duration=1.5, retry=0.2)

    first, second = elector("first"), elector("second")
    running = {name: asyncio.create_task(it.run()) for name, it in (("first", first), ("second", second))}
    await asyncio.wait(
        {asyncio.create_task(it.elected.wait()) for it in (first, second)}, return_when="FIRST_COMPLETED"
    )
    assert first.leading != second.leading
    leader, standby = ("first", second) if first.leading else ("second", first)
    running[leader].cancel()
    await asyncio.wait_for(standby.elected.wait(), 5)
    assert (await client.get(LEASES, "l", namespace))["spec"]["leaseTransitions"] == 1
    assert not lost
    await standby.release()
    assert (await client.get(LEASES, "l", namespace))["spec"].get("holderIdentity", "") == ""
    for task in running.values():
        task.cancel()
    await asyncio.gather(*running.values(), return_exceptions=True)


async def test_a_stolen_lease_is_noticed(client: Client, namespace: str) -> None:
    """Somebody else writes their name: the holder stops at once."""
    lost = asyncio.Event()
    elector = Elector(client, namespace, "l", "me", on_lost=lost.set, duration=1.5, retry=0.2)
    running = asyncio.create_task(elector.run())
    await asyncio.wait_for(elector.elected.wait(), 5)
    await client.patch(LEASES, "l", namespace, {"spec": {"holderIdentity": "thief"}})
    await asyncio.wait_for(lost.wait(), 5)
    assert not elector.leading
    await running


async def test_events_are_counted_not_repeated(client: Client, namespace: str) -> None:
    """The same notice twice is one Event with count 2."""
    made = await client.create(CONFIG_MAPS, config_map(namespace, "a"))
    recorder = Recorder(client, "tester", "tester-0")
    running = asyncio.create_task(recorder.run())
    for _ in range(2):
        recorder.record(made, Notice("Warning", "Broken", "it broke"))

    async def counts() -> list[int]:
        return [item["count"] for item in (await client.list(EVENTS, namespace)).items]

    async with asyncio.timeout(5):
        while await counts() != [2]:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (event,) = (await client.list(EVENTS, namespace)).items
    assert (event["reason"], event["message"], event["involvedObject"]["name"]) == ("Broken", "it broke", "a")


async def test_reviews_tell_who_and_what(client: Client, namespace: str) -> None:
    """A token is good for its audience only; an account without roles may do nothing."""
    token = ""
    while not token:
        try:
            token = await client.token("default", namespace, "tests")
        except NotFound:
            await asyncio.sleep(0.1)  # the account is made a moment after its namespace
    identity = await TokenReviewer(client, "tests").review(token)
    assert identity is not None and identity.username == f"system:serviceaccount:{namespace}:default"
    assert await TokenReviewer(client, "others").review(token) is None
    assert await TokenReviewer(client, "tests").review("nonsense") is None
    assert not await allowed(client, identity, "list", PODS, namespace)
    assert await allowed(client, Identity("root", "", ("system:masters",)), "list", PODS)


async def test_a_wrong_token_is_unauthorized(client: Client) -> None:
    """The class tells it from a lack of rights."""
    import ssl

    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    credentials = Credentials(client.credentials.server, tls, lambda: "nonsense")
    async with Client(credentials) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.list(PODS)
