"""Find prices in a price book, and weigh phases by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any, NamedTuple

from pydantic import ValidationError

from zerotide.api.base import describe
from zerotide.api.pricebook import Meter, Per, Price, PriceBookSpec
from zerotide.api.scalars import format_time, parse_time
from zerotide.billing.errors import InvalidPriceBook, OverlappingPrices
from zerotide.billing.fold import Phase

__all__ = [
    "Meter",
    "Per",
    "Piece",
    "Price",
    "PriceBookSpec",
    "PriceIndex",
    "as_of",
    "first_difference",
    "multiplier",
    "read_price_book",
    "read_price_books",
]


_NAMES: Mapping[Phase, tuple[str, ...]] = {
    Phase.QUEUED: (),
    Phase.PROVISIONING: ("Provisioning",),
    Phase.LOADING: ("Loading",),
    Phase.ACTIVE: ("Active",),
    Phase.KEEP_WARM: ("KeepWarm", "Idle"),
    Phase.COOLDOWN: ("Cooldown", "Idle"),
    Phase.DRAINING: ("Draining",),
    Phase.BLOCKED: ("Blocked",),
    Phase.LOST: ("Lost",),
}


def multiplier(book: PriceBookSpec, phase: Phase) -> Fraction:
    """Return the weight of a phase: what the book says, else 0 for queued, blocked and lost time and 1 for all
    other."""
    given = {entry.phase: entry.multiplier for entry in book.phase_multipliers}
    for name in _NAMES[phase]:
        if name in given:
            return Fraction(given[name])
    return Fraction(phase not in (Phase.QUEUED, Phase.BLOCKED, Phase.LOST))


def _meters(meter: Meter) -> tuple[Meter, ...]:
    """Return the meters whose prices hold for one: cached tokens cost as others do while none says otherwise."""
    return (meter, Meter.INPUT_TOKENS) if meter is Meter.CACHED_INPUT_TOKENS else (meter,)


class Piece(NamedTuple):
    """A part of a span under one price, or under none."""

    start_us: int
    end_us: int
    price: Price | None


class PriceIndex:
    """Find the price of a meter at an instant: the newest that has begun and not ended."""

    def __init__(self, book: PriceBookSpec) -> None:
        self.book = book
        self._rates = {price.name: price.rate for price in book.prices}
        self._multipliers = {phase: multiplier(book, phase) for phase in Phase}
        self._by_meter: dict[tuple[Meter, str], list[tuple[int, int | None, Price]]] = {}
        for price in book.prices:
            until = parse_time(price.valid_to) if price.valid_to else None
            entries = self._by_meter.setdefault((price.meter, price.accelerator_class_name), [])
            entries.append((parse_time(price.valid_from), until, price))
        for entries in self._by_meter.values():
            entries.sort(key=lambda entry: entry[0])
            for one, other in pairwise(entries):
                if one[0] == other[0]:
                    raise OverlappingPrices(
                        f"prices {one[2].name} and {other[2].name} are for the same thing and begin at the same "
                        "instant: give one of them another validFrom"
                    )

    def at(self, meter: Meter, class_name: str, t_us: int) -> Price | None:
        """Return the price at an instant, None where the book has none."""
        for each in _meters(meter):
            for begin, until, price in reversed(self._by_meter.get((each, class_name), ())):
                if begin <= t_us and (until is None or t_us < until):
                    return price
        return None

    def named(self, name: str) -> Price | None:
        """Return the price of that name."""
        return next((price for price in self.book.prices if price.name == name), None)

    def multiplier_of(self, phase: str) -> Fraction:
        """Return the weight of a line's phase; 1 for lines that have none."""
        return self._multipliers[Phase(phase)] if phase else Fraction(1)

    def priced(self, meter: Meter) -> bool:
        """Tell whether the book has any price of a meter that has no classes."""
        return any((each, "") in self._by_meter for each in _meters(meter))

    def rate(self, name: str) -> Fraction:
        """Return the exact price of one microsecond or piece under the price of that name; 0 for the empty name."""
        return self._rates[name] if name else Fraction(0)

    def multiplier(self, phase: Phase) -> Fraction:
        """Return the weight of a phase."""
        return self._multipliers[phase]

    def pieces(self, meter: Meter, class_name: str, start_us: int, end_us: int) -> list[Piece]:
        """Cut [start, end) at every instant at which the price changes; the pieces partition it."""
        entries = chain.from_iterable(self._by_meter.get((each, class_name), ()) for each in _meters(meter))
        inner = {t for begin, until, _ in entries for t in (begin, until) if t is not None and start_us < t < end_us}
        edges = [start_us, *sorted(inner), end_us]
        cut: list[Piece] = []
        for low, high in pairwise(edges):
            if high <= low:
                continue
            price = self.at(meter, class_name, low)
            if cut and cut[-1].price is price:
                cut[-1] = Piece(cut[-1].start_us, high, price)
            else:
                cut.append(Piece(low, high, price))
        return cut


def as_of(book: PriceBookSpec, t_us: int) -> PriceBookSpec:
    """Return a book in which what held at an instant holds always."""
    index = PriceIndex(book)
    held = {index.at(price.meter, price.accelerator_class_name, t_us) for price in book.prices}
    kept = [price for price in book.prices if price in held]
    always = {"valid_from": format_time(0), "valid_to": None}
    return book.model_copy(update={"prices": tuple(price.model_copy(update=always) for price in kept)})


def first_difference(one: PriceBookSpec, other: PriceBookSpec) -> int | None:
    """Return the first instant at which two books price anything differently, None where they never do.

    What has no dates (currency, multipliers, the default class) differs always.
    """
    if any(getattr(one, name) != getattr(other, name) for name in _UNDATED):
        return 0
    indexes = (PriceIndex(one), PriceIndex(other))
    edges: dict[tuple[Meter, str], set[int]] = {}
    for price in (*one.prices, *other.prices):
        stamps = {parse_time(price.valid_from), *([parse_time(price.valid_to)] if price.valid_to else [])}
        edges.setdefault((price.meter, price.accelerator_class_name), set()).update(stamps)
    return min(
        (
            t_us
            for thing, stamps in edges.items()
            for t_us in stamps
            if len({(price.name, price.rate) if price else None for price in (i.at(*thing, t_us) for i in indexes)}) > 1
        ),
        default=None,
    )


_UNDATED = ("currency", "default_accelerator_class_name", "phase_multipliers")


def read_price_book(document: Any) -> PriceBookSpec:
    """Return the price book that a parsed YAML document holds: a whole PriceBook object or its spec alone.

    Raises InvalidPriceBook or OverlappingPrices.
    """
    if not isinstance(document, Mapping):
        raise InvalidPriceBook((f"it must be a mapping with currency and prices, not {type(document).__name__}",))
    try:
        book = PriceBookSpec.model_validate(document.get("spec", document))
    except ValidationError as error:
        raise InvalidPriceBook(describe(error)) from error
    PriceIndex(book)
    return book


def read_price_books(documents: Iterable[Any]) -> dict[str, PriceBookSpec]:
    """Return the price books that parsed YAML documents hold, by name, as `read_price_book` does."""
    return {document["metadata"]["name"]: read_price_book(document) for document in documents if document}
