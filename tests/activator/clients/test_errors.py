"""Every row of the table of errors, as unmodified clients meet it: what they raise, and how often they ask."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from tests.activator.clients.asks import Ask, Outcome
from tests.activator.clients.children import Child
from tests.activator.clients.drivers import Driver, with_hub, with_openai
from tests.activator.clients.rows import HUB, OPENAI, ROWS, TGI, Row
from tests.activator.clients.scene import Scene
from tests.activator.replica import TEXT
from tests.activator.stack import Answer, until
from zerotide.api.errors import TABLE

CHAT = "/v1/chat/completions"
SMALL = 100_000
"""Above so many characters the answer's headers are not looked at: another row of the code shows them."""


def test_the_table_is_covered() -> None:
    """Every row that the product knows is met here."""
    met = {(row.code, row.status, row.type) for row in ROWS}
    assert {(row.code.value, row.status, row.type) for row in TABLE} == met


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
async def test_row(scene: Scene, tgi: Child, js: Child, row: Row) -> None:
    """Who is told to come back does, as late as it was told; who is told that it is no use asks once."""
    await row.bring(scene)
    told: list[float] = []
    began = time.monotonic()
    tasks = {name: asyncio.create_task(scene.ask_by(name, driver)) for name, driver in drivers(told, tgi, js, row)}
    answers = await on_the_wire(scene, row)
    for answer in answers:
        check_headers(answer, row)
    outcomes = {name: await task for name, task in tasks.items() if name != "js" or row.status != 503}
    if row.status == 503:
        # It would go on for ever: it gets what it waits for.
        await until(lambda: scene.seen["js"] >= 2)
        await scene.lift()
        assert (await tasks["js"]).text == TEXT
        assert row.at_once or scene.seen["js"] <= time.monotonic() - began + 1
    check_outcomes(outcomes, row)
    again = row.retry == "true"
    expected = {"openai": 2 if again else 1} | {name: 1 for name in outcomes if name != "openai"}
    assert {name: scene.seen[name] for name in outcomes} == expected
    if again:
        (seconds,) = told
        assert seconds == 1 if row.wait == "1" else 1 <= seconds <= 60
    else:
        assert told == []


def drivers(told: list[float], tgi: Child, js: Child, row: Row) -> list[tuple[str, Driver]]:
    """Return the clients that can meet a row."""
    chats: list[tuple[str, Driver]] = [("openai", with_openai(told)), ("js", js.ask)]
    return chats if row.by_model else [*chats, ("hub", with_hub), ("tgi", tgi.ask)]


async def on_the_wire(scene: Scene, row: Row) -> list[Answer]:
    """Return the answers as they are, on OpenAI's routes and on TGI's."""
    asked = scene.ask
    if len(asked.prompt) > SMALL:
        return []
    chat = {"model": asked.model, "messages": [{"role": "user", "content": asked.prompt}]}
    sent = [scene.stack.post(asked.path + CHAT, chat, key="wire", **asked.headers)]
    if not row.by_model:
        body = {"inputs": asked.prompt}
        sent.append(scene.stack.post(asked.path + "/generate", body, key="wire", **asked.headers))
    return list(await asyncio.gather(*sent))


def check_headers(answer: Answer, row: Row) -> None:
    """Compare status, headers and body with the row."""
    assert (answer.status, answer.code) == (row.status, row.code)
    wait = answer.headers.get("retry-after", "")
    assert 1 <= int(wait) <= 60 if row.wait == "clamp" else wait == row.wait
    assert answer.headers.get("x-should-retry", "") == row.retry
    error = answer.json["error"]
    if isinstance(error, dict):
        assert (error["type"], error["code"]) == (row.type, row.code)
    else:
        kinds = {400: "validation", 413: "validation", 429: "overloaded"}
        assert answer.json["error_type"] == kinds.get(row.status, row.code)


def check_outcomes(outcomes: dict[str, Outcome], row: Row) -> None:
    """Compare what the clients raised with what the row makes them raise."""
    status = row.status
    internal = "APIStatusError" if status < 500 else "InternalServerError"
    assert outcomes["openai"].error == OPENAI.get(status, internal)
    assert (outcomes["openai"].status, outcomes["openai"].code) == (status, row.code)
    if "js" in outcomes:
        assert (outcomes["js"].error, outcomes["js"].status) == ("InferenceClientProviderApiError", status)
    if "hub" in outcomes:
        expected = "HfHubHTTPError" if row.code == "route_not_found" else HUB.get(status, "UnknownError")
        assert (outcomes["hub"].error, outcomes["hub"].status) == (expected, status)
    if "tgi" in outcomes:
        assert outcomes["tgi"].error == TGI.get(status, "UnknownError")


async def test_a_failure_within_a_stream(scene: Scene, tgi: Child, js: Child) -> None:
    """After the first heartbeat the status is sent: each client raises what the stream says, and asks once."""
    # It starts already: a wake would bring the shortest heartbeat that a spec may have, five seconds.
    starting = scene.stack.endpoint(hold={"coldTimeout": "2s"}, status={"desiredReplicas": 1, "state": "Loading"})
    scene.stack.registry.set_profile(replace(starting.profile, heartbeat=0.2))
    scene.ask = Ask(stream=True)
    told: list[float] = []
    (endpoint,) = scene.stack.registry.endpoints.values()
    chats: dict[str, Driver] = {"openai": with_openai(told), "js": js.ask, "hub": with_hub, "tgi": tgi.ask}
    tasks = {name: asyncio.create_task(scene.ask_by(name, driver)) for name, driver in chats.items()}
    await until(lambda: endpoint.gate.held == len(chats))
    outcomes = {name: await task for name, task in tasks.items()}
    assert all(outcome.error and not outcome.text for outcome in outcomes.values()), outcomes
    assert scene.seen == dict.fromkeys(chats, 1)
    assert told == []
