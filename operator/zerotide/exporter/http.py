"""The exporter's HTTP interface: usage in, reports, metrics and health out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import web
from prometheus_client import exposition
from prometheus_client.registry import CollectorRegistry
from pydantic import ValidationError

from zerotide.api import cost, quota
from zerotide.api.failures import InvalidTime
from zerotide.api.scalars import parse_time
from zerotide.billing.arrivals import arrival_report
from zerotide.billing.bills import line_report
from zerotide.billing.compose import coldstart_report, cost_report, segment_report
from zerotide.billing.errors import InvalidPeriod, UnknownFocusVersion, UnknownZone
from zerotide.billing.focus_columns import VERSIONS
from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import PriceIndex, as_of
from zerotide.billing.rating import Period
from zerotide.billing.reports import Report
from zerotide.billing.times import BY
from zerotide.billing.whatif import rate_report
from zerotide.exporter import openapi
from zerotide.exporter.access import Access
from zerotide.exporter.answers import Refusal, answer_errors
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.board import Board
from zerotide.exporter.grouping import GroupCommit
from zerotide.exporter.intake import MAX_BODY, read_delivery
from zerotide.exporter.pricefile import load_market
from zerotide.exporter.questions import (
    Answer,
    Compose,
    Question,
    answer,
    answer_archive,
    answer_explain,
    answer_focus,
    answer_invoice,
    answer_raw,
    answer_time,
    answer_usage,
    answer_verify,
)
from zerotide.exporter.quotas import QuotaDesk
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube.clock import Clock

log = logging.getLogger(__name__)

REPORTS: Mapping[str, Compose] = {
    "cost": cost_report,
    "coldstarts": coldstart_report,
    "segments": segment_report,
    "lines": line_report,
    "arrivals": arrival_report,
}
OURS = "ours"
"""The name of the cluster's own price book among those that usage is rated by."""


class Interface:
    """Answer requests; `writer` takes records, `reader` serves reports meanwhile.

    `problems` returns what keeps the exporter from being alive or ready, empty when nothing does.
    """

    def __init__(
        self,
        *,
        writer: Threaded[Store],
        reader: Threaded[Store],
        prices: Callable[[], PriceIndex],
        board: Board,
        access: Access,
        clock: Clock,
        registry: CollectorRegistry,
        alive: Callable[[], str],
        ready: Callable[[], str],
        archive: Archive | None = None,
        quotas: QuotaDesk | None = None,
    ) -> None:
        self._writer, self._reader, self._prices, self._access = writer, reader, prices, access
        self._board, self._clock, self._registry = board, clock, registry
        self._group = GroupCommit(writer, clock)
        self._alive, self._ready, self._archive, self._quotas = alive, ready, archive, quotas

    def application(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(middlewares=[answer_errors], client_max_size=MAX_BODY)
        app.router.add_post("/internal/usage", self._take_usage)
        app.router.add_post(quota.PATH, self._give_quota)
        app.router.add_get(cost.PATH, self._costs)
        for name, compose in REPORTS.items():
            app.router.add_get(f"/api/v1/{name}", partial(self._report, compose))
        app.router.add_get("/api/v1/rate", self._rate)
        app.router.add_get("/api/v1/focus", self._focus)
        app.router.add_get("/api/v1/invoice", self._invoice)
        app.router.add_get("/api/v1/explain", partial(self._answer, answer_explain))
        app.router.add_get("/api/v1/usage", self._usage)
        app.router.add_get("/api/v1/archive", self._archived)
        app.router.add_get("/api/v1/time", self._time)
        app.router.add_get("/api/v1/verify", partial(self._answer, answer_verify))
        app.router.add_get(openapi.PATH, self._describe)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", partial(self._health, self._alive))
        app.router.add_get("/readyz", partial(self._health, self._ready))
        return app

    async def _take_usage(self, request: web.Request) -> web.Response:
        """Answer 204 once every record is durable; 200 with the refused lines, which are kept, where there are any."""
        await self._access.check_delivery(request)
        delivery = read_delivery(await request.read())
        if delivery.refused:
            now_us = self._clock.now_us()
            await self._writer.run(lambda store: store.add_usage([], delivery.refused, now_us))
        unfit = await self._group.add(delivery.records) if delivery.records else []
        if not (delivery.refused or unfit):
            return web.Response(status=204)
        lines = [(number, each.error) for number, each in zip(delivery.lines, delivery.refused, strict=True)]
        lines = sorted([*lines, *((delivery.places[each.place], each.error) for each in unfit)])
        log.error("usage records are refused and kept", extra={"number": len(lines), "error": lines[0][1]})
        return web.json_response(
            {
                "recorded": len(delivery.records) - len(unfit),
                "refused": [{"line": number, "error": error} for number, error in lines],
                "message": "refused lines are kept in the ledger's table `refused`: do not send them again",
            }
        )

    async def _give_quota(self, request: web.Request) -> web.Response:
        """Reserve tokens of budgets for an activator."""
        await self._access.check_delivery(request)
        if self._quotas is None:
            raise Refusal(503, "ServiceUnavailable", "budgets are not read yet")
        try:
            ask = quota.Ask.model_validate_json(await request.read())
        except ValidationError as error:
            raise Refusal(400, "BadRequest", f"this is no ask for quota: {error.errors(include_url=False)}") from error
        grants = await self._quotas.answer(ask)
        return web.Response(body=grants.encode(), content_type="application/json")

    async def _costs(self, request: web.Request) -> web.Response:
        """Tell the operator what has changed `after` a version of an `epoch`; all, where it has seen nothing yet."""
        await self._access.check_operator(request)
        after = request.query.get("after", "0")
        news = self._board.news(request.query.get("epoch", ""), int(after) if after.isdecimal() else 0)
        return web.Response(body=news.encode(), content_type="application/json")

    async def _rate(self, request: web.Request) -> web.Response:
        """Rate by the books that are asked for (absent: all), with the prices that held `asOf` (absent: as dated)."""
        books = {OURS: self._prices().book, **load_market()}
        wanted = request.query["book"].split(",") if request.query.get("book") else list(books)
        if unknown := [name for name in wanted if name not in books]:
            raise Refusal(404, "NotFound", f"no price book {', '.join(unknown)}: there are {', '.join(books)}")
        instant = _instant(request, "asOf", -1)
        rated = {name: PriceIndex(books[name] if instant < 0 else as_of(books[name], instant)) for name in wanted}

        def compose(ledgers: list[Ledger], _: PriceIndex, period: Period, now_us: int) -> Report:
            return rate_report(ledgers, rated, period, now_us)

        return await self._report(compose, request)

    async def _focus(self, request: web.Request) -> web.Response:
        """Export FOCUS of the `version` that is asked for (absent: 1.0)."""
        version = request.query.get("version", VERSIONS[0])
        return await self._answer(partial(answer_focus, version=version), request)

    async def _invoice(self, request: web.Request) -> web.Response:
        """Invoice what was posted in the period; `timeZone` (absent: UTC) says whose months corrections are told by."""
        name = request.query.get("timeZone", "UTC")
        return await self._answer(partial(answer_invoice, time_zone=name), request)

    async def _usage(self, request: web.Request) -> web.Response:
        """Tell usage from sums; with `raw=true` from the requests themselves."""
        raw = partial(answer_raw, archive=self._archive)
        return await self._answer(raw if request.query.get("raw") == "true" else answer_usage, request)

    async def _time(self, request: web.Request) -> web.Response:
        """Tell time by phase, `by` total (absent), day or hour of `timeZone` (absent: UTC)."""
        by = request.query.get("by", BY[0])
        if by not in BY:
            raise Refusal(400, "BadRequest", f"by {by!r}: ask for one of {', '.join(BY)}")
        time_zone = request.query.get("timeZone", "UTC")
        return await self._answer(partial(answer_time, by=by, time_zone=time_zone), request)

    async def _archived(self, request: web.Request) -> web.Response:
        """Tell what is archived of all namespaces; with `check=true` read it all, and compare it with the ledger."""
        if request.query.get("namespace") or request.query.get("endpoint"):
            raise Refusal(400, "BadRequest", "an archive is of all namespaces: ask without namespace and endpoint")
        check = request.query.get("check") == "true"
        return await self._answer(partial(answer_archive, archive=self._archive, check=check), request)

    async def _report(self, compose: Compose, request: web.Request) -> web.Response:
        return await self._answer(partial(answer, compose=compose), request)

    async def _answer(self, make: Answer, request: web.Request) -> web.Response:
        namespace, endpoint = request.query.get("namespace", ""), request.query.get("endpoint", "")
        await self._access.check_reader(request, namespace)
        now_us = self._clock.now_us()
        start, end = _instant(request, "from", 0), _instant(request, "to", now_us)

        def read(store: Store) -> str:
            question = Question(namespace, endpoint, Period(start, end).checked(), now_us)
            return make(store, self._prices(), question).model_dump_json(by_alias=True)

        try:
            return web.Response(text=await self._reader.run(read), content_type="application/json")
        except (InvalidPeriod, UnknownFocusVersion, UnknownZone) as error:
            raise Refusal(400, "BadRequest", str(error)) from error

    async def _describe(self, request: web.Request) -> web.Response:
        return web.json_response(openapi.document())

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _health(self, problem: Callable[[], str], request: web.Request) -> web.Response:
        found = problem()
        return web.Response(text=found or "ok", status=503 if found else 200)


def _instant(request: web.Request, name: str, otherwise: int) -> int:
    """Read a time from the query: RFC 3339, or microseconds since the epoch."""
    text = request.query.get(name, "")
    if not text:
        return otherwise
    if text.isdecimal() and len(text) <= 18:
        return int(text)
    try:
        return parse_time(text)
    except InvalidTime as error:
        raise Refusal(400, "BadRequest", f"{name}: {error}") from error
