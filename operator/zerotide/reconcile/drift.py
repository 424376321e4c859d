"""Find where a live object differs from what we own of it; what others added is not looked at.

A field counts as ours when the desired object names it. Lists that merge by a key are compared item by item, so a
foreign sidecar is no difference; other lists must match in length and order. Quantities are compared by value, since
the API server writes 1024Mi back as 1Gi.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from zerotide.api.failures import InvalidQuantity
from zerotide.api.scalars import parse_quantity
from zerotide.reconcile.merge import MERGE_KEYS

_QUANTITIES = {"requests", "limits", "capacity"}


def difference(live: Any, desired: Any) -> str | None:
    """Return the path of the first owned field that differs, or None.

    An empty map or list counts as absent, because the API server drops it.
    """
    found = _difference(live, desired, "")
    return None if found is None else "".join(reversed(found)).removeprefix(".")


def _difference(live: Any, desired: Any, field: str) -> list[str] | None:
    """Return the parts of the path, the last one first: where nothing differs, as nearly always, none is made."""
    if type(desired) is dict or isinstance(desired, Mapping):
        return _map(live, desired, field)
    if isinstance(desired, list):
        return _list(live, desired, field)
    return None if live == desired and type(live) is type(desired) else []


def _map(live: Any, desired: Mapping[str, Any], field: str) -> list[str] | None:
    if not desired and live is None:
        return None
    if type(live) is not dict and not isinstance(live, Mapping):
        return []
    quantities = field in _QUANTITIES
    for key, value in desired.items():
        have = live.get(key)
        if type(value) is str and type(have) is str and have == value:
            continue
        if (quantities or key == "sizeLimit") and isinstance(value, str):
            found: list[str] | None = None if _amount(have) == _amount(value) else []
        else:
            found = _difference(have, value, key)
        if found is not None:
            found.append(f".{key}")
            return found
    return None


def _list(live: Any, desired: list[Any], field: str) -> list[str] | None:
    if not desired and (live is None or field in MERGE_KEYS):
        return None
    if not isinstance(live, list):
        return []
    key = _key(field, desired)
    if key is None and len(live) != len(desired):
        return []
    known = {item.get(key): item for item in live if isinstance(item, Mapping)} if key is not None else {}
    for index, item in enumerate(desired):
        have = live[index] if key is None else known.get(item[key])
        if (found := _difference(have, item, "")) is not None:
            found.append(f"[{index if key is None else item[key]}]")
            return found
    return None


def _key(field: str, desired: list[Any]) -> str | None:
    key = MERGE_KEYS.get(field)
    keyed = key is not None and bool(desired) and all(isinstance(item, Mapping) and key in item for item in desired)
    return key if keyed else None


def _amount(text: Any) -> Decimal | str | None:
    if not isinstance(text, str):
        return None
    try:
        return parse_quantity(text)
    except InvalidQuantity:
        return text
