"""Strategic merge of a pod template, as kubectl does it: maps merge, some lists merge by a key, the rest is replaced.

A null deletes a key; `$patch: delete` deletes a list item or empties a map, `$patch: replace` replaces instead of
merging. Other directives are refused rather than ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zerotide.reconcile.failures import InvalidMerge

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "resizePolicy": "resourceName",
    "volumes": "name",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}
"""Lists of a pod that merge item by item, and the key that tells items apart."""

_PATCH = "$patch"


def merge(base: Mapping[str, Any], patch: Mapping[str, Any], path: str = "spec") -> dict[str, Any]:
    """Return `base` with `patch` merged into it; neither is changed.

    Raises InvalidMerge, naming the field, where the two do not fit together.
    """
    directive = patch.get(_PATCH)
    if directive in ("replace", "delete"):
        return {} if directive == "delete" else _clean(patch)
    _refuse_directives(patch, path)
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _value(result.get(key), value, key, f"{path}.{key}")
    return result


def _value(old: Any, new: Any, key: str, path: str) -> Any:
    if isinstance(new, Mapping):
        if old is not None and not isinstance(old, Mapping):
            raise InvalidMerge(f"podTemplate.{path} must not be a map")
        return merge(old or {}, new, path)
    if isinstance(old, Mapping):
        raise InvalidMerge(f"podTemplate.{path} must be a map")
    if isinstance(new, Sequence) and not isinstance(new, str):
        if old is not None and not isinstance(old, list):
            raise InvalidMerge(f"podTemplate.{path} must not be a list")
        return _list(old or [], list(new), MERGE_KEYS.get(key), path)
    if isinstance(old, list):
        raise InvalidMerge(f"podTemplate.{path} must be a list")
    return new


def _list(old: list[Any], new: list[Any], key: str | None, path: str) -> list[Any]:
    if {_PATCH: "replace"} in new:
        return [item for item in new if item != {_PATCH: "replace"}]
    if key is None:
        return new
    result = list(old)
    for item in new:
        if not isinstance(item, Mapping) or key not in item:
            raise InvalidMerge(f"podTemplate.{path}: each item must have a {key}, by which it is merged")
        at = next((index for index, known in enumerate(result) if known.get(key) == item[key]), None)
        if item.get(_PATCH) == "delete":
            result = [known for known in result if known.get(key) != item[key]]
        elif at is None:
            result.append(merge({}, item, f"{path}[{item[key]}]"))
        else:
            result[at] = _item(result[at], item, f"{path}[{item[key]}]")
    return result


def _item(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> dict[str, Any]:
    # value and valueFrom exclude each other: whoever names one means to drop the other.
    merged = merge(old, new, path)
    if "valueFrom" in new and "value" not in new:
        merged.pop("value", None)
    elif "value" in new and "valueFrom" not in new:
        merged.pop("valueFrom", None)
    return merged


def _clean(patch: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in patch.items() if key != _PATCH and value is not None}


def _refuse_directives(patch: Mapping[str, Any], path: str) -> None:
    for key in patch:
        if key.startswith("$"):
            known = "delete, replace" if key == _PATCH else "$patch alone"
            raise InvalidMerge(f"podTemplate.{path}: the directive {key}={patch[key]!r} is not known ({known})")
