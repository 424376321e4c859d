"""Rules of single fields, kept by pydantic and by the API server: limits, forms, uniqueness.

Use them as annotations: `Annotated[Duration, Span("5s", "24h")]`. Each says its rule in words (`message`), in Python
(`holds`) and in the schema (`schema`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zerotide.api.scalars import PATTERN_DURATION, PATTERN_QUANTITY, parse_duration, parse_quantity

_VALIDATIONS = "x-kubernetes-validations"
_ZONE = r"[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*){0,2}"


@dataclass(frozen=True)
class Check:
    """The base of all rules of single fields."""

    @property
    def message(self) -> str:
        """Return the rule in words, to follow the field's name."""
        raise NotImplementedError

    def holds(self, value: Any) -> bool:
        """Tell whether a value, already of the right type, keeps the rule."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return what the rule adds to the field's schema."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """Return the value, or raise ValueError with the rule in words."""
        if not self.holds(value):
            raise ValueError(self.message)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner, own = handler(schema), self.schema()
        rules = [*inner.get(_VALIDATIONS, ()), *own.get(_VALIDATIONS, ())]
        return {**inner, **own, **({_VALIDATIONS: rules} if rules else {})}


@dataclass(frozen=True)
class Span(Check):
    """A duration between two durations, both included; `zero_too` admits 0 as well."""

    low: str
    high: str
    zero_too: bool = False

    @property
    def message(self) -> str:
        """Return the rule in words."""
        return f"must be {'0s or ' if self.zero_too else ''}from {self.low} to {self.high}"

    def holds(self, value: str) -> bool:
        """Tell whether the duration lies within."""
        us = parse_duration(value)
        return parse_duration(self.low) <= us <= parse_duration(self.high) or (self.zero_too and us == 0)

    def schema(self) -> dict[str, Any]:
        """Return the form of a duration and its limits."""
        cel = f"duration(self) >= duration('{self.low}') && duration(self) <= duration('{self.high}')"
        if self.zero_too:
            cel = f"duration(self) == duration('0s') || ({cel})"
        return {"maxLength": 28, "pattern": PATTERN_DURATION, **_validation(cel, self.message)}


@dataclass(frozen=True)
class Amount(Check):
    """A quantity between two quantities, both included."""

    low: str
    high: str

    @property
    def message(self) -> str:
        """Return the rule in words."""
        return f"must be from {self.low} to {self.high}"

    def holds(self, value: str) -> bool:
        """Tell whether the quantity lies within."""
        return parse_quantity(self.low) <= parse_quantity(value) <= parse_quantity(self.high)

    def schema(self) -> dict[str, Any]:
        """Return the form of a quantity and its limits."""
        low = f"quantity(self).compareTo(quantity('{self.low}')) >= 0"
        cel = f"{low} && quantity(self).compareTo(quantity('{self.high}')) <= 0"
        return {"maxLength": 21, "pattern": PATTERN_QUANTITY, **_validation(cel, self.message)}


@dataclass(frozen=True)
class Matches(Check):
    """A string of a form that deserves words; `refuse` names a form that it must not contain."""

    pattern: str
    words: str
    refuse: str = ""

    @property
    def message(self) -> str:
        """Return the rule in words."""
        return f"must {self.words}"

    def holds(self, value: str) -> bool:
        """Tell whether the whole string has the form."""
        fits = re.search(self.pattern.removesuffix("$") + r"\Z", value) is not None
        return fits and not (self.refuse and re.search(self.refuse, value))

    def schema(self) -> dict[str, Any]:
        """Return the form as CEL, whose message is readable where that of `pattern` is not."""
        cel = f"self.matches({_quoted(self.pattern)})"
        if self.refuse:
            cel += f" && !self.matches({_quoted(self.refuse)})"
        return _validation(cel, self.message)


@dataclass(frozen=True)
class Zone(Check):
    """The name of a time zone that the IANA database has; offsets are none, since they know no summer time."""

    @property
    def message(self) -> str:
        """Return the rule in words."""
        return "must be the name of an IANA time zone, such as Europe/Rome"

    def holds(self, value: str) -> bool:
        """Tell whether there is such a zone."""
        return re.fullmatch(_ZONE, value) is not None and value != "Local" and _zone_exists(value)

    def schema(self) -> dict[str, Any]:
        """Return a rule that fails where the API server knows no such zone; `Local` is its own, which nobody knows."""
        known = "timestamp('2026-01-01T00:00:00Z').getFullYear(self) >= 2025"
        return {"pattern": f"^{_ZONE}$", **_validation(f"self != 'Local' && {known}", self.message)}


@lru_cache(maxsize=1024)
def _zone_exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Unique(Check):
    """A list without duplicates: by `key` where its items are objects, else by value."""

    key: str = ""

    @property
    def message(self) -> str:
        """Return the rule in words."""
        return f"must not repeat a {self.key or 'value'}"

    def holds(self, value: Sequence[Any]) -> bool:
        """Tell whether no two items are equal."""
        keys = [getattr(item, self.key) if self.key else item for item in value]
        return len(set(keys)) == len(keys)

    def schema(self) -> dict[str, Any]:
        """Return the kind of list, which server-side apply merges by."""
        if self.key:
            return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
        return {"x-kubernetes-list-type": "set"}


@dataclass(frozen=True)
class Keys(Check):
    """A mapping whose keys all have a form."""

    pattern: str
    words: str

    @property
    def message(self) -> str:
        """Return the rule in words."""
        return f"keys must {self.words}"

    def holds(self, value: Mapping[str, Any]) -> bool:
        """Tell whether every key has the form."""
        pattern = re.compile(self.pattern.removesuffix("$") + r"\Z")
        return all(pattern.search(key) for key in value)

    def schema(self) -> dict[str, Any]:
        """Return the form as CEL: structural schemas have no word about keys."""
        return _validation(f"self.all(key, key.matches({_quoted(self.pattern)}))", self.message)


@dataclass(frozen=True)
class Immutable(Check):
    """A field that keeps its first value; only the API server, which knows the old object, can tell."""

    advice: str

    @property
    def message(self) -> str:
        """Return the rule in words."""
        return f"must not change: {self.advice}"

    def holds(self, value: Any) -> bool:
        """Let any value pass."""
        return True

    def schema(self) -> dict[str, Any]:
        """Return the transition rule."""
        return _validation("self == oldSelf", self.message)


def _quoted(pattern: str) -> str:
    return "'" + pattern.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _validation(cel: str, message: str) -> dict[str, Any]:
    return {_VALIDATIONS: [{"rule": cel, "message": message}]}
