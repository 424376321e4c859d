"""Who keeps a model name that several endpoints of a namespace go by: the oldest of them.

The rule is the one by which requests are routed that name nothing but a model. The API server stamps whole seconds:
of two endpoints that were made in the same one neither is older, and such requests are refused as ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_MESSAGE = 800


@dataclass(frozen=True, slots=True)
class Claim:
    """The model names that an endpoint, `namespace/name`, goes by, and since when; `created` is RFC 3339 in UTC."""

    key: str
    created: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A model name that is not the claimer's alone; `by` is the other endpoint's name, `tied` that neither is older."""

    name: str
    by: str
    tied: bool = False


def claim_of(obj: Mapping[str, Any]) -> Claim | None:
    """Return what an endpoint of the API server claims; nothing while it is being deleted."""
    metadata, model = obj["metadata"], (obj.get("spec") or {}).get("model") or {}
    if metadata.get("deletionTimestamp"):
        return None
    names = dict.fromkeys((model.get("name") or metadata["name"], *(model.get("aliases") or ())))
    key = f"{metadata.get('namespace', '')}/{metadata['name']}"
    return Claim(key, str(metadata.get("creationTimestamp") or ""), tuple(names))


class Claims:
    """Every claim, by namespace and model name."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._by_name: dict[tuple[str, str], set[str]] = {}

    def put(self, claim: Claim) -> set[str]:
        """Take in a claim, or a newer version of it; return the other endpoints that this may concern."""
        if self._claims.get(claim.key) == claim:
            return set()
        concerned = self.drop(claim.key)
        self._claims[claim.key] = claim
        for name in claim.names:
            rivals = self._by_name.setdefault((_namespace(claim.key), name), set())
            concerned |= rivals
            rivals.add(claim.key)
        return concerned

    def drop(self, key: str) -> set[str]:
        """Forget a claim; return the other endpoints that this may concern."""
        claim = self._claims.pop(key, None)
        concerned: set[str] = set()
        for name in claim.names if claim else ():
            place = (_namespace(key), name)
            rivals = self._by_name[place]
            rivals.discard(key)
            concerned |= rivals
            if not rivals:
                del self._by_name[place]
        return concerned

    def taken(self, key: str) -> tuple[Taken, ...]:
        """Return the names of an endpoint that another one keeps, or that nobody keeps."""
        claim = self._claims.get(key)
        found = (self._taken(claim, name) for name in claim.names) if claim else ()
        return tuple(item for item in found if item is not None)

    def _taken(self, claim: Claim, name: str) -> Taken | None:
        rivals = [self._claims[key] for key in self._by_name[_namespace(claim.key), name] if key != claim.key]
        older = [rival for rival in rivals if rival.created <= claim.created]
        if not older:
            return None
        first = min(older, key=lambda rival: (rival.created, rival.key))
        return Taken(name, first.key.partition("/")[2], first.created == claim.created)


def explain(taken: Iterable[Taken]) -> str:
    """Return a sentence about names that are taken, or an empty string."""
    by_rival: dict[tuple[str, bool], list[str]] = {}
    for item in taken:
        by_rival.setdefault((item.by, item.tied), []).append(repr(item.name))
    parts = []
    for (by, tied), names in by_rival.items():
        what = f"the model name{'s' if len(names) > 1 else ''} {' and '.join(names)}"
        if tied:
            parts.append(f"the endpoint {by}, made in the same second, goes by {what} too")
        else:
            parts.append(f"the older endpoint {by} keeps {what}")
    if not parts:
        return ""
    text = f"{'; '.join(parts)}: call this endpoint by host or path, or give its model another name"
    return text if len(text) <= _MESSAGE else f"{text[: _MESSAGE - 1]}…"


def _namespace(key: str) -> str:
    return key.partition("/")[0]
