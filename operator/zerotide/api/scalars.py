"""Durations, quantities and instants: strings on the API, exact integers and decimals in the code.

A duration is a Gateway API string (`5m`, `1h30m`, `250ms`), counted in microseconds. A quantity is a Kubernetes
resource quantity (`500m`, `2Gi`), an exact decimal. An instant is RFC 3339 in UTC, microseconds since the epoch.
`Duration` and `Quantity` are strings that refuse `<`, since comparing them as text would be wrong.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from typing import Any, NoReturn

from pydantic_core import core_schema

from zerotide.api.failures import InvalidDuration, InvalidQuantity, InvalidTime

PATTERN_DURATION = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
PATTERN_QUANTITY = r"^[0-9]{1,12}(\.[0-9]{1,6})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_UNITS = {"h": HOUR, "m": MINUTE, "s": SECOND, "ms": MILLISECOND}
_SUFFIXES: dict[str, Decimal] = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTP", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTP", 1)},
}
_LARGEST = Decimal(2**63 - 1)
_EXACT = Context(prec=60)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> int:
    """Return the microseconds of a Gateway API duration.

    Raises InvalidDuration for any other text.
    """
    if re.fullmatch(PATTERN_DURATION.strip("^$"), text) is None:
        raise InvalidDuration(
            f"{text!r} is not a duration: write numbers with the units h, m, s, ms, such as 5m or 1h30m"
        )
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text))


def format_duration(us: int) -> str:
    """Return a duration as its shortest string, rounded half up to milliseconds; negative values read `0s`.

    Raises InvalidDuration from 100000 h on, which the format cannot hold.
    """
    rest = (max(us, 0) + MILLISECOND // 2) // MILLISECOND * MILLISECOND
    parts = []
    for unit, size in _UNITS.items():
        number, rest = divmod(rest, size)
        if number > 99_999:
            raise InvalidDuration(f"{us} µs is longer than 99999 h")
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


@lru_cache(maxsize=1024)
def parse_quantity(text: str) -> Decimal:
    """Return the exact value of a Kubernetes quantity: cores, bytes or pieces; capped at 2^63-1 as Kubernetes does.

    Raises InvalidQuantity for any other text.
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(m|[kMGTP]|[KMGTP]i)?", text)
    if match is None:
        raise InvalidQuantity(
            f"{text!r} is not a quantity: write a number with an optional suffix, such as 500m or 2Gi"
        )
    return min(_EXACT.multiply(Decimal(match[1]), _SUFFIXES[match[2] or ""]), _LARGEST)


def parse_time(text: str) -> int:
    """Return the microseconds since the epoch of an RFC 3339 time; nanoseconds are cut off.

    Raises InvalidTime for any other text.
    """
    if _TIME.fullmatch(text) is None:
        raise InvalidTime(f"{text!r} is not an RFC 3339 time such as 2026-11-22T18:00:00Z")
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise InvalidTime(f"{text!r} is not a time that exists: {error}") from error


def format_time(us: int) -> str:
    """Return an instant as `metav1.Time` writes it: UTC, whole seconds, rounded down."""
    return (_EPOCH + timedelta(seconds=us // SECOND)).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(us: int) -> str:
    """Return an instant as `metav1.MicroTime` writes it: UTC, six decimals."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Text(str):
    """A string whose order as text would mislead."""

    __slots__ = ()

    def _refuse(self, other: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} has no order as text: compare its number")

    __lt__ = __le__ = __gt__ = __ge__ = _refuse

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class Duration(_Text):
    """A Gateway API duration; `us` is its length in microseconds."""

    __slots__ = ()

    def __new__(cls, text: str) -> Duration:
        parse_duration(text)
        return super().__new__(cls, text)

    @property
    def us(self) -> int:
        """Return the length in microseconds."""
        return parse_duration(self)

    @property
    def seconds(self) -> float:
        """Return the length in seconds, for clocks that count in floats."""
        return self.us / SECOND


class Quantity(_Text):
    """A Kubernetes quantity; `value` is exact, `units` is rounded up to whole units such as bytes."""

    __slots__ = ()

    def __new__(cls, text: str) -> Quantity:
        parse_quantity(text)
        return super().__new__(cls, text)

    @property
    def value(self) -> Decimal:
        """Return the exact value."""
        return parse_quantity(self)

    @property
    def units(self) -> int:
        """Return the value rounded up to a whole number, such as bytes."""
        return int(self.value.to_integral_value(ROUND_CEILING))
