"""What `zerotide plan compare` says: the table, what is assumed, and whose prices they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zerotide.api.pricebook import Price
from zerotide.api.scalars import SECOND
from zerotide.api.wording import counted
from zerotide.billing.elsewhere import Offer, even_rate
from zerotide.cli.compare_source import Assumed
from zerotide.cli.output import format_span
from zerotide.scaling.compare import MONTH_H, Way

PATIENCE_S = 1.0
"""What nine of ten requests may wait, in the second sentence of the summary."""


def table(assumed: Assumed, ways: Sequence[Way], offers: Sequence[Offer]) -> tuple[list[str], list[list[str]]]:
    """Return the header and a line for each way at our price, then for each offer of others."""
    per = ["PER-MILLION"] if assumed.workload.tokens else []
    header = ["WAY", f"{assumed.currency}/MONTH", *per, "REPLICAS", "STARTS", "COLD", "P90-WAIT", "P99-WAIT"]
    rows = [[_marked(assumed, way), *_money(assumed, month_of(assumed, way)), *_waits(assumed, way)] for way in ways]
    rows += [[named(offer), *_money(assumed, offer.month), *_waits(assumed, offer.way)] for offer in offers]
    return header, rows


def _marked(assumed: Assumed, way: Way) -> str:
    return f"{way.name} (now)" if way.name == assumed.present else way.name


def month_of(assumed: Assumed, way: Way) -> float:
    """Return what a way costs in a month at our price."""
    return assumed.second * way.served.replica_s / assumed.workload.months


def named(offer: Offer) -> str:
    """Return an offer's name: whose it is, and of what."""
    return f"{offer.book}, {offer.way.name if offer.way else 'its tokens'}"


def _money(assumed: Assumed, month: float) -> list[str]:
    workload = assumed.workload
    each = [f"{month * workload.months * 1e6 / workload.tokens:.2f}"] if workload.tokens else []
    return [f"{month:.2f}", *each]


def _waits(assumed: Assumed, way: Way | None) -> list[str]:
    if way is None:
        return [""] * 5
    served, workload = way.served, assumed.workload
    return [
        f"{served.replica_s / workload.span_s:.2f}",
        str(served.starts),
        f"{served.cold / workload.requests:.1%}",
        *(format_span(round(served.wait_s(percent) * SECOND)) for percent in (90, 99)),
    ]


def notes(assumed: Assumed, ways: Sequence[Way], offers: Sequence[Offer]) -> list[str]:
    """Return what it comes to, what is assumed, and the prices of others with their sources."""
    return ["", *_summary(assumed, ways, offers), "", *assumptions(assumed, offers), *_sources(offers)]


def _summary(assumed: Assumed, ways: Sequence[Way], offers: Sequence[Offer]) -> list[str]:
    in_words = f"{assumed.currency} a month"
    least = min(ways, key=lambda way: month_of(assumed, way))
    lines = [f"Least of yours: {least.name}, {month_of(assumed, least):.2f} {in_words}; {_said(least)}."]
    quick = [way for way in ways if way.served.wait_s(90) <= PATIENCE_S]
    if quick and least not in quick:
        soon = min(quick, key=lambda way: month_of(assumed, way))
        lines.append(
            f"Least of yours in which nine of ten wait no longer than {format_span(int(PATIENCE_S * SECOND))}: "
            f"{soon.name}, {month_of(assumed, soon):.2f} {in_words}."
        )
    always = month_of(assumed, next(way for way in ways if way.always))
    even = [(offer.book, even_rate(assumed.workload, offer, always)) for offer in offers]
    rates = ", ".join(f"{book} {rate:.0f}" for book, rate in even if rate is not None)
    if rates:
        lines.append(
            f"Always on costs less than the tokens of so many such requests an hour, if its replicas keep up: {rates}."
        )
    return lines


def _said(way: Way) -> str:
    return f"nine of ten requests wait no longer than {format_span(round(way.served.wait_s(90) * SECOND))}"


def assumptions(assumed: Assumed, offers: Sequence[Offer]) -> list[str]:
    """Return what the figures rest on, a sentence each."""
    workload, bounds = assumed.workload, assumed.bounds
    hourly = workload.requests * 3_600 / workload.span_s
    given, made = workload.input_tokens / workload.requests, workload.output_tokens / workload.requests
    tokens = f", of {given:.0f} + {made:.0f} tokens" if workload.tokens else ""
    served = format_span(int(sum(workload.arrivals.services) / workload.requests * SECOND))
    limit = f"takes {bounds.limit} at once" if bounds.limit else "takes any number at once"
    lines = [
        f"{workload.name}: {workload.requests} requests in {format_span(int(workload.span_s * SECOND))} "
        f"({hourly:.1f} an hour{tokens}, served for {served} in the mean), as if they went on so for {MONTH_H} hours.",
        f"A cold start takes {format_span(int(assumed.cold_s * SECOND))}, {assumed.cold_by}. At most "
        f"{counted(bounds.most, 'replica')}: one for each {bounds.target} requests, and each {limit}, no slower.",
        f"A second of a replica costs {assumed.second:.6g} {assumed.currency}: {assumed.second_by}.",
    ]
    if assumed.left_out:
        lines.append(f"Not run here, of its spec: {' and '.join(assumed.left_out)}; see `zerotide plan advise`.")
    if any(offer.way for offer in offers):
        lines.append(
            "Others' replicas: the same ones at their price; those priced by the hour are rented throughout, those "
            "by the second billed for starts, service and idle time. How long their starts take is not known here."
        )
    if any(offer.way is None for offer in offers):
        lines.append(
            "Others' tokens: of the model that the book is named after, which is not yours; nothing is cached, and how "
            "long it lets wait is not known here."
        )
    elif assumed.currency != "USD":
        lines.append(f"Prices of others are in USD, and yours in {assumed.currency}: they are not compared.")
    elif not workload.tokens:
        lines.append("Without --input-tokens and --output-tokens there is nothing to hold against prices of tokens.")
    return lines


def _sources(offers: Sequence[Offer]) -> list[str]:
    said = {f"  {offer.book}: {quoted(offer.prices)}": None for offer in offers}
    return ["Public list prices, which change:", *said] if said else []


def quoted(prices: Sequence[Price]) -> str:
    """Return prices as they were quoted, with their sources."""
    amounts = ", ".join(f"{price.name} {price.amount} per {price.per}" for price in prices)
    return f"{amounts} ({'; '.join(dict.fromkeys(price.source for price in prices))})"


def document(assumed: Assumed, ways: Sequence[Way], offers: Sequence[Offer]) -> dict[str, Any]:
    """Return all of it as data; waits in seconds."""
    workload = assumed.workload
    return {
        "workload": {
            "name": workload.name,
            "requests": workload.requests,
            "spanSeconds": workload.span_s,
            "inputTokens": workload.input_tokens,
            "outputTokens": workload.output_tokens,
        },
        "currency": assumed.currency,
        "present": assumed.present or None,
        "hoursOfMonth": MONTH_H,
        "replicaSecond": assumed.second,
        "coldStartSeconds": assumed.cold_s,
        "bounds": {"most": assumed.bounds.most, "target": assumed.bounds.target, "limit": assumed.bounds.limit},
        "ways": [{"name": way.name, "month": month_of(assumed, way), **_figures(assumed, way)} for way in ways],
        "elsewhere": [
            {
                "book": offer.book,
                "way": offer.way.name if offer.way else None,
                "month": offer.month,
                **(_figures(assumed, offer.way) if offer.way else {}),
                "cheaperAlwaysOnFromPerHour": even_rate(
                    workload, offer, month_of(assumed, next(way for way in ways if way.always))
                ),
                "prices": [
                    {"name": price.name, "amount": price.amount, "per": price.per, "source": price.source}
                    for price in offer.prices
                ],
            }
            for offer in offers
        ],
        "assumptions": assumptions(assumed, offers),
    }


def _figures(assumed: Assumed, way: Way) -> dict[str, Any]:
    served = way.served
    return {
        "replicaSeconds": served.replica_s,
        "starts": served.starts,
        "coldRequests": served.cold,
        "coldShare": served.cold / assumed.workload.requests,
        "meanWait": served.waited_s / assumed.workload.requests,
        "p50Wait": served.wait_s(50),
        "p90Wait": served.wait_s(90),
        "p99Wait": served.wait_s(99),
    }
