"""Count what is served while nothing can be recorded, until a record of that number can be written."""

from __future__ import annotations

import uuid

from zerotide.api.usage import Unrecorded

Who = tuple[str, str, str]
"""Namespace and name of the endpoint, and the consumer."""


class Losses:
    """Attempts without a record, by endpoint and consumer, since the last record of them."""

    def __init__(self) -> None:
        self._found: dict[Who, tuple[int, int, int]] = {}

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._found)

    def add(self, who: Who, requests: int, from_us: int, to_us: int) -> None:
        """Count attempts that ended between two instants."""
        number, first, last = self._found.get(who, (0, from_us, to_us))
        self._found[who] = (number + requests, min(first, from_us), max(last, to_us))

    def take(self) -> list[Unrecorded]:
        """Return records of all that was counted, and count anew."""
        found, self._found = self._found, {}
        return [
            Unrecorded(
                id=uuid.uuid4().hex,
                namespace=namespace,
                endpoint=endpoint,
                consumer=consumer,
                requests=number,
                from_us=first,
                to_us=last,
            )
            for (namespace, endpoint, consumer), (number, first, last) in found.items()
        ]

    def give_back(self, records: list[Unrecorded]) -> None:
        """Count again what could not be written."""
        for each in records:
            self.add((each.namespace, each.endpoint, each.consumer), each.requests, each.from_us, each.to_us)
