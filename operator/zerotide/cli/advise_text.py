"""What `zerotide plan advise` says: the sentence, the table, the comparisons and the patch."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from zerotide.api.scalars import SECOND, format_time
from zerotide.api.spec_scaling import Scaling
from zerotide.billing.reports import CostReport
from zerotide.cli.output import format_span, format_table
from zerotide.scaling.advice import DAY_S, Advice, Option, span
from zerotide.scaling.hours import History
from zerotide.scaling.replay.simulate import Prices


def sentence(advice: Advice, prices: Prices) -> str:
    """Return the advice with its numbers."""
    now, best = advice.present.outcome, advice.best.outcome
    if advice.best is advice.present:
        return f"Keep it as it is: of all that was tried, nothing costs much less than {now.cost(prices):.2f}."
    saved = 1 - best.cost(prices) / now.cost(prices)
    said = (
        f"Take {advice.best.name}: {best.cost(prices):.2f} instead of {now.cost(prices):.2f} ({saved:.0%} less), with "
        f"{best.cold_starts} cold starts instead of {now.cold_starts} and "
        f"{format_span(int(best.waited_s * SECOND))} of waiting instead of {format_span(int(now.waited_s * SECOND))}"
    )
    each = advice.price_of_avoided(prices)
    if each is None:
        return f"{said}."
    if each <= 0:
        return f"{said}; the cold starts that it avoids cost nothing more."
    return f"{said}; each cold start that it avoids costs {each:.4f}."


def table(advice: Advice, prices: Prices) -> list[str]:
    """Return a line for each option."""
    header = ["OPTION", "COST", "REPLICA", "IDLE", "COLD-STARTS", "WAITED"]
    rows = []
    for option in (*advice.options, advice.always_on):
        outcome = option.outcome
        spans = [format_span(int(s * SECOND)) for s in (outcome.gpu_s, outcome.idle_s)]
        waited = format_span(int(outcome.waited_s * SECOND))
        rows.append([option.name, f"{outcome.cost(prices):.2f}", *spans, str(outcome.cold_starts), waited])
    return format_table(header, rows, right=header[1:])


def basis(history: History, prices: Prices, currency: str) -> str:
    """Return what the costs are made of."""
    since = format_time(int(history.begin_s * SECOND))
    return (
        f"Costs are those of {history.span_s / DAY_S:.1f} days, since {since}, in {currency}: {prices.gpu:g} for a "
        f"second of a replica, and {prices.waiting:g} for each second that a request waits."
    )


def compared(
    advice: Advice, prices: Prices, cost: CostReport, dedicated_hour: float | None, api_million: float | None
) -> list[str]:
    """Return how it compares to a machine of one's own and to somebody else's API."""
    lines = []
    if dedicated_hour is not None and (span_s := advice.always_on.outcome.gpu_s):
        used, even = advice.best.outcome.gpu_s / span_s, dedicated_hour / (3_600 * prices.gpu)
        cheaper = "so take the machine" if used > even else "so scale to zero"
        from_ = f"from {even:.0%} on a machine of your own is cheaper"
        if even > 1:
            from_ = f"a machine of your own costs {even:.0%} of a replica that never sleeps"
        lines.append(f"It needs a replica {used:.0%} of the time; {from_}, {cheaper}.")
    own = [each.per_million_tokens for each in cost.endpoints if each.per_million_tokens is not None]
    if api_million is not None and own:
        paid = float(Decimal(own[0]))
        cheaper = "here" if paid <= api_million else "elsewhere"
        lines.append(
            f"A million tokens cost {paid:.2f} here, as billed, and {api_million:.2f} elsewhere: less {cheaper}."
        )
    elif api_million is not None:
        lines.append("No tokens were billed in this time, so there is no price to hold against the API's.")
    return lines


def left_out(scaling: Scaling) -> list[str]:
    """Return what of a spec is not replayed."""
    kept = max((scaling.kept_replicas, *(each.min_replicas for each in scaling.schedules)))
    lines = [f"One replica is replayed, of {kept} that are kept."] if kept > 1 else []
    if scaling.prewarm.mode == "Enabled":
        lines.append("Prewarming is not replayed: what it is now is told without it.")
    return lines


def patch(best: Option, present: Scaling) -> dict[str, Any]:
    """Return the change of the present spec that makes it the option."""
    scaling: dict[str, Any] = {"pinnedReplicas": 0} if present.pinned_replicas else {}
    if best.kept:
        return {"spec": {"scaling": {**scaling, "minReplicas": best.kept}}}
    if present.min_replicas:
        scaling["minReplicas"] = 0
    scaling["idle"] = {"policy": "Learned"} if best.learned else {"policy": "Fixed", "timeout": span(best.timeout_s)}
    if best.hours is not None:
        window = {"start": best.hours.cron, "duration": f"{best.hours.length}h", "timeZone": best.hours.zone}
        scaling["schedules"] = [{"name": "advised", **window, "minReplicas": 1}]
    elif present.schedules:
        scaling["schedules"] = []
    return {"spec": {"scaling": scaling}}
