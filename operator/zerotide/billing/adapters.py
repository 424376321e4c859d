"""Tell apart what the adapters of a model cost: what each consumer pays, by the adapters that it asked for.

Requests are billed once more under their consumer and their adapter together, and each line of the bill is divided as
the time or the pieces in it are. So adapters add up to the endpoint's total, whatever lines were rounded to. What no
request used, and what was asked of the model itself, is the model's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from zerotide.billing.bills import endpoint_bill
from zerotide.billing.ledger import Ledger, flights_of
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import PLACES, LineKey, Period
from zerotide.billing.reports import AdapterCost
from zerotide.billing.split import apportion
from zerotide.billing.usage import Attempt

_BETWEEN = "\n"
"""What no name of a consumer has in it."""


def adapter_costs(
    ledger: Ledger, index: PriceIndex, period: Period, done: Iterable[Attempt], amounts: Mapping[LineKey, Decimal]
) -> tuple[AdapterCost, ...]:
    """Return what each adapter cost, the model's own part first; nothing where none was asked for.

    `done` are the requests that were finished in the period, `amounts` the rounded lines of the bill.
    """
    if not any(attempt.adapter for attempt in ledger.records.attempts):
        return ()
    bill = endpoint_bill(_labelled(ledger), index, period, increment_us=1)
    parts: dict[LineKey, dict[str, Fraction]] = {}
    for key, line in bill.lines().items():
        consumer, adapter = _told_apart(key.consumer)
        mine = parts.setdefault(key._replace(consumer=consumer), {})
        mine[adapter] = mine.get(adapter, Fraction(0)) + line.quantity
    owed = Counter[str]()
    for key, amount in amounts.items():
        owed.update(_divided(int(amount.scaleb(PLACES)), parts.get(key, {})))
    active: dict[str, Fraction] = {}
    for label, us in apportion(bill.active_us).items():
        adapter = _told_apart(label)[1]
        active[adapter] = active.get(adapter, Fraction(0)) + us
    requests, taken, given = Counter[str](), Counter[str](), Counter[str]()
    for attempt in done:
        requests[attempt.adapter] += 1
        taken[attempt.adapter] += attempt.input_tokens
        given[attempt.adapter] += attempt.output_tokens
    return tuple(
        AdapterCost(
            adapter=name,
            active_us=int(active.get(name, 0)),
            requests=requests[name],
            input_tokens=taken[name],
            output_tokens=given[name],
            amount=f"{Decimal(owed[name]).scaleb(-PLACES):f}",
        )
        for name in sorted({"", *active, *owed, *requests})
    )


def _labelled(ledger: Ledger) -> Ledger:
    """Return a ledger in which requests that asked for an adapter are those of their consumer and of the adapter."""
    records = ledger.records
    named = replace(
        records,
        attempts=tuple(
            each._replace(consumer=f"{each.consumer}{_BETWEEN}{each.adapter}") if each.adapter else each
            for each in records.attempts
        ),
    )
    return replace(ledger, records=named, flights=flights_of(named, ledger.as_of_us))


def _told_apart(label: str) -> tuple[str, str]:
    consumer, _, adapter = label.partition(_BETWEEN)
    return consumer, adapter


def _divided(units: int, parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Divide an amount as a line's quantity is; what has no quantity is the model's own."""
    whole = sum(parts.values(), Fraction(0))
    if not whole:
        return {"": units}
    return apportion({name: units * part / whole for name, part in parts.items()}, units)
