"""The exporter's HTTP interface in OpenAPI 3.1: what may be asked for, and what is answered, as its own models are."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

from zerotide.billing.archives import ArchiveReport
from zerotide.billing.focus import FocusReport
from zerotide.billing.focus_columns import VERSIONS
from zerotide.billing.reports import ArrivalReport, ColdStartReport, CostReport, Report, SegmentReport
from zerotide.billing.rollups import UsageReport
from zerotide.billing.statements import Explanation, InvoiceReport, LineReport, RateReport, Verification
from zerotide.billing.times import BY, TimeReport
from zerotide.exporter.access import TOKEN_HEADER

Json = dict[str, Any]

PATH = "/openapi.json"


@dataclass(frozen=True)
class Endpoint:
    """One report: where it is, what it tells, its shape, and what its query has beside the period and whose it is."""

    path: str
    summary: str
    model: type[Report]
    more: tuple[Json, ...] = ()
    of_all: bool = False


def _query(name: str, description: str, **schema: Any) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


FROM = _query("from", "begin of the period: RFC 3339, or microseconds since the epoch; absent: of all time")
TO = _query("to", "end of the period, which is not part of it; absent: now")
NAMESPACE = _query("namespace", "of one namespace; absent: of all, for who may read all")
NAME = _query("endpoint", "of one endpoint; absent: of all")
ZONE = _query("timeZone", "name of an IANA time zone, whose days and months count", default="UTC")
BOOK = _query("book", "names of price books, separated by commas; absent: all")
AS_OF = _query("asOf", "take the prices of this time for all; absent: as they are dated")
RAW = _query("raw", "`true`: from the requests themselves in place of sums", enum=["true", "false"], default="false")
CHECK = _query("check", "`true`: read all, and compare it with the ledger", enum=["true", "false"], default="false")

ENDPOINTS = (
    Endpoint("/api/v1/cost", "What endpoints, models, consumers and phases cost", CostReport),
    Endpoint("/api/v1/coldstarts", "Each wake with its stages, and what it cost", ColdStartReport),
    Endpoint("/api/v1/segments", "What each replica did when", SegmentReport),
    Endpoint("/api/v1/lines", "Each charge, rounded once", LineReport),
    Endpoint("/api/v1/arrivals", "When requests came, for `zerotide plan`", ArrivalReport),
    Endpoint("/api/v1/rate", "The same usage by several price books", RateReport, (BOOK, AS_OF)),
    Endpoint(
        "/api/v1/focus",
        "What is to be paid in the columns of FOCUS",
        FocusReport,
        (_query("version", "of FOCUS", enum=list(VERSIONS), default=VERSIONS[0]),),
    ),
    Endpoint("/api/v1/invoice", "What is to be paid, with corrections of what was sealed", InvoiceReport, (ZONE,)),
    Endpoint("/api/v1/explain", "Each charge with the facts that it is made of", Explanation),
    Endpoint("/api/v1/usage", "Requests and tokens by consumer", UsageReport, (RAW,)),
    Endpoint("/api/v1/archive", "The days that are archived", ArchiveReport, (CHECK,), of_all=True),
    Endpoint(
        "/api/v1/time",
        "Time by phase",
        TimeReport,
        (_query("by", "slices of the period", enum=list(BY), default=BY[0]), ZONE),
    ),
    Endpoint("/api/v1/verify", "Every law of the ledger, checked on what it has", Verification),
)

REFUSAL: Json = {
    "description": "Refused, or not possible now: a Kubernetes Status that says why and what to do",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["kind", "apiVersion", "status", "code", "reason", "message"],
                "properties": {
                    **{name: {"type": "string"} for name in ("kind", "apiVersion", "status", "reason", "message")},
                    "code": {"type": "integer"},
                },
            }
        }
    },
}


@functools.cache
def document() -> Json:
    """Return the description of everything that people and their programs may read."""
    _, schemas = models_json_schema(
        [(each.model, "serialization") for each in ENDPOINTS], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Zerotide's ledger",
            "version": "v1",
            "description": "Reports of what replicas used and what it costs. Prices and budgets are changed by the "
            "resources PriceBook and Budget alone.",
        },
        "security": [{"token": []}, {"bearer": []}],
        "paths": {each.path: {"get": _operation(each)} for each in ENDPOINTS},
        "components": {
            "schemas": schemas["$defs"],
            "responses": {"Refusal": REFUSAL},
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": TOKEN_HEADER,
                    "description": "a token of Kubernetes whose owner may get inferenceendpoints; reaches it through "
                    "the API server's proxy as well",
                },
                "bearer": {"type": "http", "scheme": "bearer", "description": "the same, for who comes directly"},
            },
        },
    }


def _operation(endpoint: Endpoint) -> Json:
    whose: Iterable[Json] = () if endpoint.of_all else (NAMESPACE, NAME)
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{endpoint.model.__name__}"}}}
    return {
        "operationId": endpoint.path.rpartition("/")[2],
        "summary": endpoint.summary,
        "parameters": [*whose, FROM, TO, *endpoint.more],
        "responses": {
            "200": {"description": endpoint.summary, "content": content},
            "default": {"$ref": "#/components/responses/Refusal"},
        },
    }
