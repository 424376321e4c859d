"""The exporter over HTTP: who may do what, what is durable, how errors read."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life
from tests.exporter.described import misfits
from tests.exporter.fakeapi import FakeApi
from tests.exporter.records import intent, settlement
from zerotide.api.cost import Spendings
from zerotide.api.scalars import SECOND, format_micro_time
from zerotide.billing.archives import ArchiveReport
from zerotide.billing.focus import FocusReport
from zerotide.billing.reports import ArrivalReport, ColdStartReport, CostReport, SegmentReport
from zerotide.billing.rollups import DAY, UsageReport
from zerotide.billing.sealing import bucket_of
from zerotide.billing.statements import Explanation, InvoiceReport, LineReport, RateReport, Verification
from zerotide.billing.times import TimeReport
from zerotide.exporter.access import Access
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.board import Board
from zerotide.exporter.endpoints import wake_of
from zerotide.exporter.http import Interface
from zerotide.exporter.intake import MAX_BODY
from zerotide.exporter.metrics import LedgerCollector, registry
from zerotide.exporter.sealer import seal_due
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client
from zerotide.kube.clock import Clock

ACTIVATOR = "system:serviceaccount:zerotide-system:zerotide-activator"
OPERATOR = "system:serviceaccount:zerotide-system:zerotide-operator"
DELIVERY = {"Authorization": "Bearer activator-token"}
READER = {"X-Zerotide-Token": "reader-token"}
PRICES = index(gpu())


class World:
    """An interface on a real socket, its ledger and its API server."""

    def __init__(self, http: TestClient[Any, Any], writer: Threaded[SQLiteStore], api: FakeApi) -> None:
        self.http, self.writer, self.api = http, writer, api
        self.problem = ""


@pytest.fixture
async def world(api: FakeApi, client: Client, tmp_path: Path) -> AsyncIterator[World]:
    """Serve a ledger with one life in it."""
    writer = await Threaded.open(lambda: SQLiteStore(tmp_path / "l.sqlite"), "writer")
    reader: Threaded[Store] = await Threaded.open(lambda: SQLiteStore(tmp_path / "l.sqlite"), "reader")
    await writer.run(lambda store: store.add_facts(life(scheduled=0, started=1, ready=2, finished=60), T0))
    api.tokens["activator-token"] = {"username": ACTIVATOR, "audience": "zerotide-exporter"}
    api.tokens["reader-token"] = {"username": "ada", "audience": ""}
    api.readers.add(("ada", "demo"))
    made: list[World] = []
    interface = Interface(
        writer=writer,  # type: ignore[arg-type]
        reader=reader,
        prices=lambda: PRICES,
        board=Board(lambda: PRICES, Clock().now_us, dict, wake_of),
        access=Access(client, ACTIVATOR, OPERATOR),
        clock=Clock(),
        registry=registry(LedgerCollector({})),
        alive=lambda: made[0].problem,
        ready=lambda: made[0].problem,
        archive=Archive(tmp_path / "archive"),
    )
    async with TestClient(TestServer(interface.application())) as http:
        made.append(World(http, writer, api))
        yield made[0]
    await reader.close()
    await writer.close()


def body(*numbers: int) -> bytes:
    """Return the records of several requests, as the activator sends them."""
    return b"".join(
        intent(str(n), forwarded_us=T0 + 10 * SECOND).encode() + settlement(str(n), ended_us=T0 + 20 * SECOND).encode()
        for n in numbers
    )


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


async def test_reports_are_served_in_their_types(world: World) -> None:
    period = {"namespace": "demo", "from": format_micro_time(T0), "to": str(T0 + 3600 * SECOND)}
    async with world.http.post("/internal/usage", data=body(1), headers=DELIVERY) as answer:
        assert answer.status == 204
    async with world.http.get("/api/v1/cost", params=period, headers=READER) as answer:
        cost = CostReport.model_validate(await answer.json())
    assert (cost.from_us, cost.total, cost.endpoints[0].tokens.requests) == (T0, "0.084000", 1)
    async with world.http.get("/api/v1/coldstarts", params=period, headers=READER) as answer:
        assert ColdStartReport.model_validate(await answer.json()).wakes == ()
    bearer = {"Authorization": "Bearer reader-token"}
    async with world.http.get("/api/v1/segments", params={**period, "endpoint": "smollm2"}, headers=bearer) as answer:
        segments = SegmentReport.model_validate(await answer.json())
    assert [pod.pod_uid for pod in segments.pods] == ["u1"]


@pytest.mark.parametrize(
    ("query", "headers", "status", "words"),
    [
        ({"namespace": "demo"}, {}, 401, "send a token"),
        ({"namespace": "other"}, READER, 403, "in namespace other"),
        ({}, READER, 403, "in all namespaces"),
        ({"namespace": "demo", "from": "yesterday"}, READER, 400, "from: 'yesterday'"),
        ({"namespace": "demo", "from": "2", "to": "1"}, READER, 400, "swap from and to"),
    ],
)
async def test_readers_see_what_they_may_get(
    world: World, query: dict[str, str], headers: dict[str, str], status: int, words: str
) -> None:
    async with world.http.get("/api/v1/cost", params=query, headers=headers) as answer:
        assert answer.status == status
        assert words in (await answer.json())["message"]


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


async def test_statements_are_served_and_verified(world: World) -> None:
    query = {"namespace": "demo", "to": str(T0 + 3600 * SECOND)}
    async with world.http.get("/api/v1/lines", params=query, headers=READER) as answer:
        lines = LineReport.model_validate(await answer.json())
    async with world.http.get("/api/v1/explain", params=query, headers=READER) as answer:
        explained = Explanation.model_validate(await answer.json())
    async with world.http.get("/api/v1/verify", params=query, headers=READER) as answer:
        verified = Verification.model_validate(await answer.json())
    assert lines.total == explained.total == "0.084000"
    assert explained.pods[0].pod_uid == "u1"
    assert (verified.differences, len(verified.checks)) == (0, 10)


async def test_arrivals_are_served(world: World) -> None:
    """As they are replayed by whoever plans."""
    async with world.http.post("/internal/usage", data=body(1, 2), headers=DELIVERY) as answer:
        assert answer.status == 204
    query = {"namespace": "demo", "endpoint": "smollm2", "to": str(T0 + 3600 * SECOND)}
    async with world.http.get("/api/v1/arrivals", params=query, headers=READER) as answer:
        report = ArrivalReport.model_validate(await answer.json())
    assert report.to_us == T0 + 3600 * SECOND
    assert report.requests == ((T0 + 10 * SECOND, 10 * SECOND),) * 2


async def test_usage_is_told_by_consumer(world: World) -> None:
    async with world.http.post("/internal/usage", data=body(1, 2), headers=DELIVERY) as answer:
        assert answer.status == 204
    query = {"namespace": "demo", "from": str(T0), "to": str(T0 + 3600 * SECOND)}
    async with world.http.get("/api/v1/usage", params=query, headers=READER) as answer:
        (row,) = UsageReport.model_validate(await answer.json()).rows
    assert (row.endpoint, row.consumer, row.requests) == ("smollm2", "demo/a", 2)
    assert (row.input_tokens, row.cached_tokens, row.output_tokens) == (14, 6, 10)


async def test_usage_is_rated_by_books_of_the_market(world: World) -> None:
    query = {"namespace": "demo", "to": str(T0 + 3600 * SECOND)}
    async with world.http.get("/api/v1/rate", params=query, headers=READER) as answer:
        found = RateReport.model_validate(await answer.json())
    assert {"ours", "replicate", "modal", "runpod", "together-70b"} <= {book.book for book in found.books}
    as_of = {**query, "book": "replicate,modal", "asOf": "2026-05-01T00:00:00Z"}
    async with world.http.get("/api/v1/rate", params=as_of, headers=READER) as answer:
        found = RateReport.model_validate(await answer.json())
    assert [(book.book, book.total) for book in found.books] == [("replicate", "0.084000"), ("modal", "0.065520")]
    async with world.http.get("/api/v1/rate", params={**query, "book": "aws"}, headers=READER) as answer:
        assert (answer.status, "no price book aws" in (await answer.json())["message"]) == (404, True)


async def test_invoices_and_explanations_show_corrections_of_what_was_sealed(world: World) -> None:
    after = T0 + 3 * 3600 * SECOND

    def seal(store: SQLiteStore) -> int:
        return seal_due(cast(Store, store), PRICES, store.seals.claim(), after, 3600 * SECOND)

    assert await world.writer.run(seal) == 8
    async with world.http.post("/internal/usage", data=body(1), headers=DELIVERY) as answer:
        assert answer.status == 204
    after += 900 * SECOND
    assert await world.writer.run(seal) == 1
    posted = bucket_of(after) - 3600 * SECOND - 900 * SECOND
    whole = {"namespace": "demo", "from": str(T0), "to": str(after)}
    async with world.http.get("/api/v1/explain", params=whole, headers=READER) as answer:
        explained = Explanation.model_validate(await answer.json())
    assert {(view.posted_us, view.of_us) for view in explained.corrections} == {(posted, bucket_of(T0))}
    assert sum(Decimal(view.amount) for view in explained.corrections) == 0, "to another consumer, not more"
    later = {**whole, "from": str(posted), "timeZone": "Europe/Rome"}
    async with world.http.get("/api/v1/invoice", params=later, headers=READER) as answer:
        invoice = InvoiceReport.model_validate(await answer.json())
    assert {line.consumer: line.amount for line in invoice.corrections} == {
        "demo/a": "0.014000",
        "demo/smollm2": "-0.014000",
    }
    assert (invoice.total, invoice.sealed_until_us) == ("0.000000", posted + 900 * SECOND)
    async with world.http.get("/api/v1/focus", params=later, headers=READER) as answer:
        focus = FocusReport.model_validate(await answer.json())
    assert {row[focus.columns.index("ChargeClass")] for row in focus.rows} == {"Correction"}
    async with world.http.get("/api/v1/invoice", params={**later, "timeZone": "Mars"}, headers=READER) as answer:
        assert (answer.status, "no time zone 'Mars'" in (await answer.json())["message"]) == (400, True)


async def test_raw_usage_and_what_is_archived_are_told(world: World, tmp_path: Path) -> None:
    world.api.readers.add(("ada", ""))
    async with world.http.post("/internal/usage", data=body(1, 2), headers=DELIVERY) as answer:
        assert answer.status == 204
    days = f"from=0&to={T0 // DAY * DAY + 2 * DAY}"

    def archive(store: SQLiteStore) -> int:
        epoch = store.seals.claim()
        while seal_due(store, PRICES, epoch, T0 + 2 * DAY, 0):
            pass
        return Archive(tmp_path / "archive").write_due(store, T0 + 2 * DAY)

    assert await world.writer.run(archive) == 2
    found = []
    for query in (f"usage?{days}", f"usage?{days}&raw=true"):
        async with world.http.get(f"/api/v1/{query}", headers=READER) as answer:
            found.append(UsageReport.model_validate_json(await answer.text()).rows)
    assert found[0] == found[1] and [row.requests for row in found[0]] == [2]
    async with world.http.get(f"/api/v1/archive?{days}&check=true", headers=READER) as answer:
        report = ArchiveReport.model_validate_json(await answer.text())
    assert report.enabled and [day.requests for day in report.days] == [2, 0]
    assert [check.differences for check in report.checks] == [(), (), ()]
    async with world.http.get("/api/v1/archive?namespace=demo", headers=READER) as answer:
        assert (answer.status, "of all namespaces" in await answer.text()) == (400, True)
    (tmp_path / "archive" / "manifests" / "00000001.json").write_text("")
    async with world.http.get(f"/api/v1/archive?{days}", headers=READER) as answer:
        assert (answer.status, "move it away" in await answer.text()) == (503, True)


async def test_only_who_may_read_every_bill_is_told_what_is_archived(world: World) -> None:
    async with world.http.get("/api/v1/archive", headers=READER) as answer:
        assert answer.status == 403


async def test_time_is_told_by_phase_and_hour(world: World) -> None:
    world.api.readers.add(("ada", ""))
    period = f"from={T0}&to={T0 + 60 * SECOND}"
    async with world.http.get(f"/api/v1/time?{period}", headers=READER) as answer:
        whole = TimeReport.model_validate_json(await answer.text())
    assert {row.phase: row.seconds for row in whole.rows if row.meter == "AcceleratorTime"} == {
        "provisioning": "1.000000",
        "loading": "1.000000",
        "idle_cooldown": "58.000000",
    }
    async with world.http.get(f"/api/v1/time?{period}&by=hour&timeZone=Asia/Kathmandu", headers=READER) as answer:
        assert TimeReport.model_validate_json(await answer.text()).rows == whole.rows
    for query, words in (
        (f"{period}&by=minute", "ask for one of total, day, hour"),
        (f"{period}&timeZone=Mars/Base", "Mars/Base"),
        ("from=0&by=hour", "ask for a shorter one"),
    ):
        async with world.http.get(f"/api/v1/time?{query}", headers=READER) as answer:
            assert (answer.status, words in await answer.text()) == (400, True)


async def test_what_is_described_is_what_is_served(world: World) -> None:
    """Each report once, nothing else; each real answer has its shape, and each refusal its own."""
    async with world.http.get("/openapi.json") as answer:
        assert answer.status == 200 and answer.content_type == "application/json"
        told = await answer.json()
    routes = {route.resource.canonical for route in world.http.app.router.routes() if route.resource is not None}
    assert set(told["paths"]) == {path for path in routes if path.startswith("/api/v1/")}
    async with world.http.post("/internal/usage", data=body(1, 2), headers=DELIVERY) as answer:
        assert answer.status == 204
    world.api.readers.add(("ada", ""))
    known, refusal = told["components"]["schemas"], told["components"]["responses"]["Refusal"]
    for path, operations in told["paths"].items():
        operation = operations["get"]
        names = [each["name"] for each in operation["parameters"]]
        query = {"namespace": "demo"} if "namespace" in names else {}
        for each in operation["parameters"]:
            query |= {each["name"]: each["schema"]["default"]} if "default" in each["schema"] else {}
        async with world.http.get(path, params=query, headers=READER) as answer:
            assert answer.status == 200, (path, await answer.text())
            shape = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert list(misfits(shape, await answer.json(), known)) == [], path
        async with world.http.get(path, params={"from": "yesterday"}, headers=READER) as answer:
            assert answer.status == 400
            shape = refusal["content"]["application/json"]["schema"]
            assert list(misfits(shape, await answer.json(), known)) == [], path


def test_a_shape_that_differs_is_seen() -> None:
    known = {"Row": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}}
    rows = {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}
    assert list(misfits(rows, [{"a": 1}], known)) == []
    differing: list[Any] = [{}, [{}], [{"a": "1"}], [{"a": 1, "b": 2}]]
    for wrong in differing:
        assert len(list(misfits(rows, wrong, known))) == 1
    either = {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]}
    assert [len(list(misfits(either, value, known))) for value in ("x", None, "y", 1)] == [0, 0, 1, 1]
