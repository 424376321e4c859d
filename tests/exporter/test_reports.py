"""The reports that the exporter serves: who may read them, and that each is what its type and its description say."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from tests.billing.worlds import T0
from tests.exporter.described import misfits
from tests.exporter.interface import DELIVERY, PRICES, READER, World, body, world
from zerotide.api.scalars import SECOND, format_micro_time
from zerotide.billing.archives import ArchiveReport
from zerotide.billing.focus import FocusReport
from zerotide.billing.reports import ArrivalReport, ColdStartReport, CostReport, SegmentReport
from zerotide.billing.rollups import DAY, UsageReport
from zerotide.billing.sealing import bucket_of
from zerotide.billing.statements import Explanation, InvoiceReport, LineReport, RateReport, Verification
from zerotide.billing.times import TimeReport
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.sealer import seal_due
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Store

__all__ = ["world"]


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
