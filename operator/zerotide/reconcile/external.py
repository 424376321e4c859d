"""Notice who else writes the replicas of an endpoint's Deployment: an autoscaler, or a person, at the wrong object.

What they wrote is put back at once, so the object shows it for a moment only; a sighting is told for a while after,
and in words that stay, so that a writer that never gives in makes one condition and one Event of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zerotide.api.names import MANAGER_OPERATOR
from zerotide.api.scalars import HOUR, MINUTE

TOLD_US = 10 * MINUTE
"""How long a sighting is told."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Writer:
    """Somebody else who set the replicas, and when that was seen first and last."""

    name: str
    since_us: int
    seen_us: int

    @property
    def until_us(self) -> int:
        """Return until when it is told."""
        return self.seen_us + TOLD_US

    @property
    def message(self) -> str:
        """Return what is told."""
        return (
            f"{self.name} sets spec.replicas of the Deployment, and they are put back: "
            "scale the InferenceEndpoint instead"
        )

    @property
    def once(self) -> str:
        """Return what its Event is told once for; whoever comes and goes makes no more than one an hour."""
        return f"{self.name} {self.since_us // HOUR}"


def writers(entries: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Return of metadata.managedFields what tells who owns spec.replicas."""
    found = []
    for entry in entries:
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}):
            kept = {key: entry[key] for key in ("manager", "operation", "subresource") if key in entry}
            found.append({**kept, "fieldsV1": {"f:spec": {"f:replicas": {}}}})
    return found


def sight(live: Mapping[str, Any] | None, decided: int | None, before: Writer | None, now_us: int) -> Writer | None:
    """Return who wrote other replicas than were decided, or else the last sighting as long as it is told."""
    known = before if before is not None and now_us < before.until_us else None
    if live is None or decided is None or live["spec"].get("replicas") == decided:
        return known
    for entry in writers(live["metadata"].get("managedFields") or ()):
        if entry.get("manager") != MANAGER_OPERATOR:
            subresource = f" by its {entry['subresource']}" if entry.get("subresource") else ""
            name = f"{entry.get('manager') or 'somebody'}{subresource}"
            return Writer(name, known.since_us if known and known.name == name else now_us, now_us)
    return known
