"""Make the fields that a POST or a patch of ours owns those of our server-side apply.

An object made by POST belongs to the manager's *updates*. An apply of the same manager counts as another owner: it
can add fields but never drop one that the POST brought. So before an apply, our entries are joined into one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Entry = dict[str, Any]


def joined(entries: Iterable[Mapping[str, Any]], manager: str) -> list[Entry] | None:
    """Return metadata.managedFields with the manager's entries joined into its apply, or None if they are already.

    Entries of other managers and of subresources are kept as they are.
    """
    ours: list[Entry] = []
    others: list[Entry] = []
    for entry in entries:
        mine = entry.get("manager") == manager and not entry.get("subresource")
        (ours if mine else others).append(dict(entry))
    if all(entry.get("operation") == "Apply" for entry in ours):
        return None
    fields: Entry = {}
    for entry in ours:
        fields = _union(fields, entry.get("fieldsV1") or {})
    return [*others, {**ours[0], "operation": "Apply", "fieldsV1": fields}]


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> Entry:
    result = dict(one)
    for key, value in other.items():
        result[key] = _union(result.get(key) or {}, value)
    return result
