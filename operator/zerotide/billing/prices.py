"""The price book: what a unit of each meter costs, from when until when, and how phases weigh.

An amount is kept as it was quoted (`"0.34"` per `Hour`): as a price per microsecond it would often not be a finite
decimal. AcceleratorTime is per device, CPUTime per core, MemoryTime per GiB, the rest per piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from zerotide.api.base import Model, Time, Unique, describe
from zerotide.api.scalars import HOUR, SECOND, parse_time
from zerotide.billing.errors import InvalidPriceBook, OverlappingPrices
from zerotide.billing.fold import Phase


class Meter(StrEnum):
    """What is counted."""

    ACCELERATOR_TIME = "AcceleratorTime"
    CPU_TIME = "CPUTime"
    MEMORY_TIME = "MemoryTime"
    INPUT_TOKENS = "InputTokens"
    CACHED_INPUT_TOKENS = "CachedInputTokens"
    OUTPUT_TOKENS = "OutputTokens"
    REQUESTS = "Requests"


class Per(StrEnum):
    """How much of it the amount buys."""

    SECOND = "Second"
    HOUR = "Hour"
    ONE = "One"
    THOUSAND = "Thousand"
    MILLION = "Million"


TIME_METERS = frozenset({Meter.ACCELERATOR_TIME, Meter.CPU_TIME, Meter.MEMORY_TIME})
_UNITS = {Per.SECOND: SECOND, Per.HOUR: HOUR, Per.ONE: 1, Per.THOUSAND: 1_000, Per.MILLION: 1_000_000}
_TIMES = frozenset({Per.SECOND, Per.HOUR})

Money = Annotated[str, Field(max_length=32, pattern=r"^[0-9]{1,12}(\.[0-9]{1,18})?$")]


class Price(Model):
    """One price, valid in [validFrom, validTo)."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    meter: Meter
    accelerator_class_name: Annotated[str, Field(max_length=63)] = ""
    amount: Money
    per: Per
    valid_from: Time
    valid_to: Time | None = None
    source: Annotated[str, Field(max_length=512)] = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.meter in TIME_METERS) != (self.per in _TIMES):
            raise ValueError(f"{self.name}: {self.meter} cannot be priced per {self.per}")
        if (self.meter == Meter.ACCELERATOR_TIME) != bool(self.accelerator_class_name):
            raise ValueError(f"{self.name}: acceleratorClassName goes with AcceleratorTime and with nothing else")
        if self.valid_to is not None and parse_time(self.valid_to) <= parse_time(self.valid_from):
            raise ValueError(f"{self.name}: validTo must be later than validFrom")
        return self

    @property
    def rate(self) -> Fraction:
        """Return the exact price of one microsecond, or of one piece."""
        return Fraction(self.amount) / _UNITS[self.per]


class PhaseMultiplier(Model):
    """How much of the price a phase costs; `Idle` stands for both kinds of idle time."""

    phase: Literal["Provisioning", "Loading", "Active", "Idle", "KeepWarm", "Cooldown", "Draining", "Blocked", "Lost"]
    multiplier: Money


class PriceBook(Model):
    """All prices in one currency; `defaultAcceleratorClassName` prices devices that nobody named."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    default_accelerator_class_name: Annotated[str, Field(max_length=63)] = ""
    prices: Annotated[tuple[Price, ...], Field(max_length=256), Unique("name")] = ()
    phase_multipliers: Annotated[tuple[PhaseMultiplier, ...], Unique("phase")] = ()

    @property
    def default_class(self) -> str:
        """Return the class under which devices are billed that nobody named, empty where they have no price."""
        return self.default_accelerator_class_name

    def multiplier(self, phase: Phase) -> Fraction:
        """Return the weight of a phase: what the book says, else 0 for queued, blocked and lost time and 1 for all
        other."""
        given = {entry.phase: entry.multiplier for entry in self.phase_multipliers}
        for name in _NAMES[phase]:
            if name in given:
                return Fraction(given[name])
        return Fraction(phase not in (Phase.QUEUED, Phase.BLOCKED, Phase.LOST))


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


class Piece(NamedTuple):
    """A part of a span under one price, or under none."""

    start_us: int
    end_us: int
    price: Price | None


class PriceIndex:
    """Find the price of a meter at an instant: the newest that has begun and not ended."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self._rates = {price.name: price.rate for price in book.prices}
        self._multipliers = {phase: book.multiplier(phase) for phase in Phase}
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
        entries = self._by_meter.get((meter, class_name), ())
        for begin, until, price in reversed(entries):
            if begin <= t_us and (until is None or t_us < until):
                return price
        return None

    def priced(self, meter: Meter) -> bool:
        """Tell whether the book has any price of a meter that has no classes."""
        return (meter, "") in self._by_meter

    def rate(self, name: str) -> Fraction:
        """Return the exact price of one microsecond or piece under the price of that name; 0 for the empty name."""
        return self._rates[name] if name else Fraction(0)

    def multiplier(self, phase: Phase) -> Fraction:
        """Return the weight of a phase."""
        return self._multipliers[phase]

    def pieces(self, meter: Meter, class_name: str, start_us: int, end_us: int) -> list[Piece]:
        """Cut [start, end) at every instant at which the price changes; the pieces partition it."""
        entries = self._by_meter.get((meter, class_name), ())
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


def read_price_book(document: Any) -> PriceBook:
    """Return the price book that a parsed YAML document holds: a whole PriceBook object or its spec alone.

    Raises InvalidPriceBook or OverlappingPrices.
    """
    if not isinstance(document, Mapping):
        raise InvalidPriceBook((f"it must be a mapping with currency and prices, not {type(document).__name__}",))
    try:
        book = PriceBook.model_validate(document.get("spec", document))
    except ValidationError as error:
        raise InvalidPriceBook(describe(error)) from error
    PriceIndex(book)
    return book
