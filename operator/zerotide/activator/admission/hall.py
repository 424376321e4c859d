"""The room for held requests over all endpoints: bounds in all, per namespace and per consumer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zerotide.activator.admission.shares import share
from zerotide.api.errors import ErrorCode, Rejection


@dataclass(frozen=True, slots=True)
class Cap:
    """A bound of held requests and of the bytes of their bodies."""

    requests: int
    bytes: int

    def shared(self, me: str, members: Iterable[str]) -> Cap:
        """Return this activator's share."""
        names = tuple(members)
        return Cap(share(self.requests, me, names), share(self.bytes, me, names))


@dataclass(frozen=True, slots=True)
class Caps:
    """The bounds over all endpoints."""

    total: Cap
    namespace: Cap
    consumer: Cap

    def shared(self, me: str, members: Iterable[str]) -> Caps:
        """Return this activator's share."""
        names = tuple(members)
        return Caps(self.total.shared(me, names), self.namespace.shared(me, names), self.consumer.shared(me, names))


MEBIBYTE = 1024 * 1024
DEFAULT = Caps(Cap(100_000, 2048 * MEBIBYTE), Cap(50_000, 1024 * MEBIBYTE), Cap(20_000, 512 * MEBIBYTE))


class Hall:
    """What all gates hold together."""

    def __init__(self, caps: Caps = DEFAULT) -> None:
        self.caps = caps
        self._held: dict[str, list[int]] = {}

    def refusal(self, namespace: str, consumer: str, size: int) -> Rejection | None:
        """Return why there is no room to hold a request, None where there is."""
        caps = self.caps
        wanted = (
            (f"consumer {consumer}", caps.consumer),
            (f"namespace {namespace}", caps.namespace),
            ("", caps.total),
        )
        for name, cap in wanted:
            requests, held = self._held.get(name, (0, 0))
            if requests >= cap.requests or held + size > cap.bytes:
                return full(name)
        return None

    def count(self, namespace: str, consumer: str, size: int) -> None:
        """Count a request that is held."""
        for name in (f"consumer {consumer}", f"namespace {namespace}", ""):
            counts = self._held.setdefault(name, [0, 0])
            counts[0] += 1
            counts[1] += size

    def leave(self, namespace: str, consumer: str, size: int) -> None:
        """Count a request no longer."""
        for name in (f"consumer {consumer}", f"namespace {namespace}", ""):
            counts = self._held[name]
            counts[0] -= 1
            counts[1] -= size
            if not counts[0]:
                del self._held[name]

    def held(self, name: str = "") -> tuple[int, int]:
        """Return requests and bytes that are held in all, of a `namespace …` or of a `consumer …`."""
        requests, size = self._held.get(name, (0, 0))
        return requests, size


def full(name: str) -> Rejection:
    """Return the answer where a bound over all endpoints is reached."""
    if name.startswith("consumer "):
        message = f"{name.partition(' ')[2]} has as many requests held, over all endpoints, as a consumer may have"
        return Rejection(ErrorCode.CONSUMER_LIMIT, message)
    where = f"in {name}" if name else "by the gateway"
    return Rejection(ErrorCode.QUEUE_FULL, f"as many requests are held {where}, over all endpoints, as allowed")
