"""What follows from the head of a request alone, worked out once for all requests that share it.

A reading holds for one version of the registry: any change of an endpoint, a key or the activators makes a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from zerotide.activator.admission.budgets import Pulse, Verdict
from zerotide.activator.admission.callers import Caller
from zerotide.activator.admission.naming import Name
from zerotide.activator.admission.profile import Profile
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.traffic.outgoing import kept_headers
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.wire import render_lines
from zerotide.api.protocol import Protocol


@dataclass(slots=True)
class Reading:
    """Who calls, what is asked for, and where it goes as far as the head says."""

    version: int
    read_us: int
    """When that was, by the machine's clock."""
    caller: Caller | None
    profile: Profile | None
    """None where the body's `model` is to say it."""
    target: str
    """Without the prefix that names the endpoint."""
    path: str
    """The target without its query."""
    protocol: Protocol
    longest: float
    """Seconds for which it may be held by what it says itself."""
    batch: bool
    longest_body: int
    is_json: bool
    given_id: str
    """The request id that the client gave, empty where it gave none."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """By model, empty for requests whose body names none."""

    def tell(self, visit: Visit) -> None:
        """Tell a visit what its head says."""
        visit.caller, visit.target, visit.protocol = self.caller, self.target, self.protocol
        visit.longest, visit.batch = self.longest, self.batch

    def holds(self, version: int, wall_us: Callable[[], int]) -> bool:
        """Tell whether it is still true; where the clock fell since, who knows for how long it would be."""
        caller = self.caller
        until_us = caller.until_us if caller is not None else None
        return self.version == version and (until_us is None or self.read_us <= wall_us() < until_us)


@dataclass(slots=True)
class Plan:
    """The way of requests with one head to one endpoint."""

    endpoint: Endpoint
    claims: tuple[tuple[str, int], ...]
    """The names under which they are counted as a consumer's, each with its limit."""
    names: tuple[str, ...]
    head: bytes
    """What the replica gets to see of the head, up to what differs from request to request."""
    verdicts: tuple[Verdict, ...]
    """What budgets forbid of them."""
    quotas: tuple[Name, ...]
    """Budgets of which they reserve tokens."""
    pulses: tuple[Pulse, ...]
    """By what it is known that budgets are known, where they are to be refused if not."""
    facts: bytes
    """What their usage records have in common."""


def head_of(visit: Visit, profile: Profile) -> bytes:
    """Return the beginning of a request as its replica gets it; what `tail_of` returns ends it."""
    line = f"POST {visit.target} HTTP/1.1\r\n".encode("latin-1")
    return line + render_lines(kept_headers(visit.exchange.request, profile))


def tail_of(visit: Visit) -> bytes:
    """Return the rest of a request: what differs from one to the next, and the body."""
    peer, body = visit.exchange.peer, visit.payload.body
    return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        peer.address.encode(),
        peer.scheme,
        visit.shown_id.encode("latin-1"),
        len(body),
        body,
    )
