"""The exporter over HTTP: who may do what, what is durable, how errors read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.billing.worlds import T0
from tests.exporter.interface import DELIVERY, OPERATOR, READER, World, body, world
from tests.exporter.records import intent, settlement
from zerotide.api.cost import Spendings
from zerotide.exporter.intake import MAX_BODY
from zerotide.exporter.sqlite import SQLiteStore

__all__ = ["world"]


async def test_usage_is_durable_when_it_is_acknowledged_and_counted_once(world: World, tmp_path: Path) -> None:
    for _ in range(2):
        async with world.http.post("/internal/usage", data=body(1, 2), headers=DELIVERY) as answer:
            assert answer.status == 204
    another = SQLiteStore(tmp_path / "l.sqlite")
    assert [each.request_id for each in another.attempts()] == ["1", "2"]
    another.close()


async def test_bad_lines_are_named_and_kept_and_good_ones_recorded(world: World) -> None:
    async with world.http.post("/internal/usage", data=b"{}\n" + body(1) + b"nonsense\n", headers=DELIVERY) as answer:
        assert answer.status == 200
        found = await answer.json()
    assert (found["recorded"], [each["line"] for each in found["refused"]]) == (2, [1, 4])
    assert "no usage record" in found["refused"][0]["error"]
    assert await world.writer.run(lambda store: (len(store.attempts()), store.refused())) == (1, 2)


async def test_a_count_beyond_the_ledgers_is_named_and_holds_up_nothing(world: World) -> None:
    """A ledger that failed at it would be sent it again for ever, and nothing behind it."""
    line = settlement("big", ended_us=T0).encode().replace(b'"output":5', b'"output":%d' % 10**30)
    async with world.http.post("/internal/usage", data=line + body(1), headers=DELIVERY) as answer:
        assert answer.status == 200
        found = await answer.json()
    assert (found["recorded"], [each["line"] for each in found["refused"]]) == (2, [1])
    assert "tokens.output" in found["refused"][0]["error"]


async def test_a_record_that_the_ledger_cannot_hold_is_named_and_holds_up_nothing(world: World) -> None:
    line = intent("big", forwarded_us=T0).model_copy(update={"attempt": 2**70}).encode()
    async with world.http.post("/internal/usage", data=b"{}\n" + line + body(1), headers=DELIVERY) as answer:
        assert answer.status == 200
        found = await answer.json()
    assert (found["recorded"], [each["line"] for each in found["refused"]]) == (2, [1, 2])
    assert "cannot hold" in found["refused"][1]["error"]
    assert await world.writer.run(lambda store: (len(store.attempts()), store.refused())) == (1, 2)


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({}, 401, "send a token"),
        ({"Authorization": "Basic eA=="}, 401, "send a token"),
        ({"Authorization": "Bearer unknown"}, 401, "does not accept the token"),
        ({"Authorization": "Bearer reader-token"}, 401, "does not accept the token"),
        ({"Authorization": "Bearer operator-token"}, 403, "may not deliver usage"),
    ],
)
async def test_only_activators_deliver_usage(world: World, headers: dict[str, str], status: int, words: str) -> None:
    world.api.tokens["operator-token"] = {"username": "operator", "audience": "zerotide-exporter"}
    async with world.http.post("/internal/usage", data=body(1), headers=headers) as answer:
        assert answer.status == status
        assert words in (await answer.json())["message"]
    assert await world.writer.run(lambda store: store.attempts()) == []


@pytest.mark.parametrize(
    ("token", "status", "words"),
    [
        ("", 401, "send a token"),
        ("reader-token", 401, "does not accept the token"),
        ("activator-token", 403, f"only {OPERATOR}"),
        ("operator-token", 200, ""),
    ],
)
async def test_only_the_operator_is_told_of_all_costs(world: World, token: str, status: int, words: str) -> None:
    world.api.tokens["operator-token"] = {"username": OPERATOR, "audience": "zerotide-exporter"}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with world.http.get("/internal/costs?after=nonsense", headers=headers) as answer:
        text = await answer.text()
    assert (answer.status, words in text) == (status, True)
    if status == 200:
        assert (Spendings.model_validate_json(text).version, Spendings.model_validate_json(text).endpoints) == (0, ())


async def test_a_delivery_that_is_too_large_is_refused_whole(world: World) -> None:
    large = io.BytesIO(b"x" * (MAX_BODY + 1))
    async with world.http.post("/internal/usage", data=large, headers=DELIVERY) as answer:
        assert answer.status == 413
        assert (await answer.json())["reason"] == "RequestEntityTooLarge"
    assert await world.writer.run(lambda store: store.refused()) == 0


async def test_a_ledger_that_takes_no_writes_asks_to_try_again(world: World) -> None:
    await world.writer.run(lambda store: store._db.execute("PRAGMA query_only = ON"))
    async with world.http.post("/internal/usage", data=body(1), headers=DELIVERY) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
    await world.writer.run(lambda store: store._db.execute("PRAGMA query_only = OFF"))
    async with world.http.post("/internal/usage", data=body(1), headers=DELIVERY) as answer:
        assert answer.status == 204


async def test_without_the_api_server_nobody_is_let_in(world: World) -> None:
    await world.api.__aexit__()
    async with world.http.get("/api/v1/cost", params={"namespace": "demo"}, headers=READER) as answer:
        assert answer.status == 503


async def test_unknown_routes_read_like_other_errors(world: World) -> None:
    async with world.http.get("/api/v1/nothing") as answer:
        assert (answer.status, (await answer.json())["reason"]) == (404, "NotFound")


async def test_health_says_what_is_wrong(world: World) -> None:
    for path in ("/healthz", "/readyz"):
        async with world.http.get(path) as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
    world.problem = "the disk is on fire"
    async with world.http.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (503, "the disk is on fire")


async def test_metrics_come_in_both_forms(world: World) -> None:
    async with world.http.get("/metrics") as answer:
        assert "zerotide_build_info" in await answer.text()
    async with world.http.get("/metrics", headers={"Accept": "application/openmetrics-text"}) as answer:
        assert (await answer.text()).endswith("# EOF\n")
