"""Check the laws of the ledger on whatever is in it: what tests hold for invented worlds must hold for the real one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

from zerotide.billing.bills import endpoint_bill
from zerotide.billing.compose import endpoint_cost
from zerotide.billing.facts import Fact, Kind
from zerotide.billing.fold import Lifetime, Phase, fold
from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period
from zerotide.billing.split import split_flights
from zerotide.billing.statements import Check, Verification

PARTS = 7
"""Into so many parts a period is cut, at no round instants, to see that they add up."""


def verification(ledgers: Iterable[Ledger], index: PriceIndex, period: Period, as_of_us: int) -> Verification:
    """Fold everything anew and check every law; raise InvalidPeriod."""
    period = period.up_to(as_of_us)
    ledgers = list(ledgers)
    lives = [(ledger, life) for ledger in ledgers for life in ledger.lifetimes]
    return Verification(
        from_us=period.start_us,
        to_us=period.end_us,
        as_of_us=as_of_us,
        checks=(
            _check("phases partition each allocation", len(lives), (_partition(life) for _, life in lives)),
            _check(
                "an allocation runs from its first start to its best-known end",
                len(lives),
                (_allocation(life, ledger.records.facts[life.pod_uid], as_of_us) for ledger, life in lives),
            ),
            _check(
                "facts that come twice or in another order change nothing",
                len(lives),
                (_replayed(ledger, life, as_of_us) for ledger, life in lives),
            ),
            _check("shares of active time add up to it", len(lives), (_shares(ledger, life) for ledger, life in lives)),
            _check(
                "phases and consumers add up to each total",
                len(ledgers),
                (_sums(ledger, index, period) for ledger in ledgers),
            ),
            _check(
                "parts of the period add up to the whole",
                len(ledgers),
                (_parts(ledger, index, period) for ledger in ledgers),
            ),
        ),
    )


def _check(law: str, number: int, found: Iterable[str]) -> Check:
    return Check(law=law, checked=number, differences=tuple(each for each in found if each))


def _name(life: Lifetime) -> str:
    return f"pod {life.identity.namespace}/{life.identity.pod} ({life.pod_uid})"


def _partition(life: Lifetime) -> str:
    edge = life.start_us
    for low, high, phase in life.segments:
        if phase is Phase.QUEUED:
            continue
        if low != edge or high <= low:
            return f"{_name(life)}: {phase} begins at {low} where {edge} was expected"
        edge = high
    return "" if edge == life.end_us else f"{_name(life)}: its segments end at {edge}, its allocation at {life.end_us}"


def _allocation(life: Lifetime, facts: Iterable[Fact], as_of_us: int) -> str:
    """Work the bounds out a second time, straight from the rules and without the fold."""
    times: dict[str, list[int]] = {}
    for fact in facts:
        times.setdefault(fact.kind, []).append(fact.t_us)
    start = min(times.get(Kind.SCHEDULED, ()), default=as_of_us)
    if start >= as_of_us:
        return "" if life.allocated_us == 0 else f"{_name(life)}: never scheduled, {life.allocated_us} us allocated"
    if Kind.FINISHED in times:
        end = max(times[Kind.FINISHED])
    elif Kind.TERMINAL in times:
        end = max(times[Kind.TERMINAL])
    else:
        end = min(times.get(Kind.GONE, ()), default=as_of_us)
    expected = max(min(end, as_of_us) - start, 0)
    return "" if life.allocated_us == expected else f"{_name(life)}: {life.allocated_us} us allocated, not {expected}"


def _replayed(ledger: Ledger, life: Lifetime, as_of_us: int) -> str:
    facts = list(ledger.records.facts[life.pod_uid])
    spans = [flight.span for flight in ledger.flights.get(life.pod_uid, ())]
    once = fold(facts, spans, as_of_us=as_of_us)
    again = fold([*reversed(facts), *facts], [*reversed(spans), *spans], as_of_us=as_of_us)
    return "" if once == again else f"{_name(life)}: it folds otherwise in another order"


def _shares(ledger: Ledger, life: Lifetime) -> str:
    active = [segment for segment in life.segments if segment.phase is Phase.ACTIVE]
    flights = ledger.flights.get(life.pod_uid, ())
    for low, high, _ in active:
        shared = sum(split_flights(flights, low, high).values(), Fraction(0))
        if shared != high - low:
            return f"{_name(life)}: {shared} of {high - low} active us are shared"
    return ""


def _sums(ledger: Ledger, index: PriceIndex, period: Period) -> str:
    cost = endpoint_cost(ledger, index, period)
    phases = sum((Decimal(phase.amount) for phase in cost.phases), Decimal(cost.tokens.amount))
    consumers = sum((Decimal(each.amount) for each in cost.consumers), Decimal(0))
    if phases == consumers == Decimal(cost.total):
        return ""
    return f"endpoint {cost.namespace}/{cost.endpoint}: total {cost.total}, phases {phases}, consumers {consumers}"


def _parts(ledger: Ledger, index: PriceIndex, period: Period) -> str:
    whole = _amounts(ledger, index, period)
    summed: dict[str, Fraction] = {}
    for part in _cut(_lived(ledger, period)):
        for consumer, amount in _amounts(ledger, index, part).items():
            summed[consumer] = summed.get(consumer, Fraction(0)) + amount
    for consumer in sorted({*whole, *summed}):
        apart, together = summed.get(consumer, Fraction(0)), whole.get(consumer, Fraction(0))
        # Shares by tokens are kept in units of a fraction of a microsecond, whose rest each part gives away anew.
        if abs(apart - together) > _TINY:
            where = f"{ledger.records.namespace}/{ledger.records.endpoint}"
            return f"endpoint {where}, consumer {consumer}: parts cost {apart}, the whole {together}"
    return ""


_TINY = Fraction(1, 10**12)


def _amounts(ledger: Ledger, index: PriceIndex, period: Period) -> Mapping[str, Fraction]:
    amounts: dict[str, Fraction] = {}
    for key, line in endpoint_bill(ledger, index, period, increment_us=1).lines().items():
        amounts[key.consumer] = amounts.get(key.consumer, Fraction(0)) + line.amount
    return amounts


def _lived(ledger: Ledger, period: Period) -> Period:
    """Return the part of a period in which there is anything, so that cuts fall into it."""
    starts = [life.created_us for life in ledger.lifetimes]
    starts += [attempt.forwarded_us for attempt in ledger.records.attempts]
    return Period(min(max(min(starts, default=0), period.start_us), period.end_us), period.end_us)


def _cut(period: Period) -> Iterator[Period]:
    length = period.end_us - period.start_us
    edges: Sequence[int] = [period.start_us + length * number // PARTS for number in range(PARTS)]
    for low, high in zip(edges, [*edges[1:], period.end_us], strict=True):
        yield Period(low, high)
