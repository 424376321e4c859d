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


def difference(live: Any, desired: Any, path: str = "", field: str = "") -> str | None:
    """Return the path of the first owned field that differs, or None.

    An empty map or list counts as absent, because the API server drops it.
    """
    if isinstance(desired, Mapping):
        return _map(live, desired, path, field)
    if isinstance(desired, list):
        return _list(live, desired, path, field)
    return None if live == desired and type(live) is type(desired) else path


def _map(live: Any, desired: Mapping[str, Any], path: str, field: str) -> str | None:
    if not desired and live is None:
        return None
    if not isinstance(live, Mapping):
        return path
    for key, value in desired.items():
        here = f"{path}.{key}" if path else key
        if (field in _QUANTITIES or key == "sizeLimit") and isinstance(value, str):
            if _amount(live.get(key)) != _amount(value):
                return here
        elif (found := difference(live.get(key), value, here, key)) is not None:
            return found
    return None


def _list(live: Any, desired: list[Any], path: str, field: str) -> str | None:
    if not desired and (live is None or field in MERGE_KEYS):
        return None
    if not isinstance(live, list):
        return path
    key = _key(field, desired)
    if key is not None:
        known = {item.get(key): item for item in live if isinstance(item, Mapping)}
        for item in desired:
            here = f"{path}[{item[key]}]"
            if (found := difference(known.get(item[key]), item, here)) is not None:
                return found
        return None
    if len(live) != len(desired):
        return path
    pairs = enumerate(zip(live, desired, strict=True))
    return next(
        (found for i, (have, want) in pairs if (found := difference(have, want, f"{path}[{i}]")) is not None), None
    )


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
