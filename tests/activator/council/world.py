"""A few members that talk over links with delays, in a time of their own: no sockets, no clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.activator.admission.guests import Guest
from zerotide.activator.admission.gate import Bounds, Gate
from zerotide.activator.admission.tickets import Turn
from zerotide.activator.council.council import Council
from zerotide.activator.council.membership import Member
from zerotide.activator.council.messages import Message, decode, encode

KEY = "uid-1"
BOUNDS = Bounds(max_requests=5, max_bytes=1000, per_replica=3, cold_timeout=1e6, busy_timeout=1e6)


@dataclass
class Node:
    """One member."""

    name: str
    council: Council
    gate: Gate[str]
    guests: list[Guest] = field(default_factory=list)

    @property
    def held(self) -> list[Guest]:
        """Return its own requests for which there was room in the line."""
        return [guest for guest in self.guests if guest.turn is Turn.HELD and guest.accepted]

    @property
    def owner(self) -> str:
        """Return who it takes for the owner."""
        return self.council.owner(KEY)


class World:
    """All members, the links between them, and what really is."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.now = 1000.0
        self.bounds = bounds
        self.nodes: dict[str, Node] = {}
        self.wires: dict[tuple[str, str], deque[bytes]] = {}
        self.replicas: set[str] = set()
        self.arrivals = 0
        self.sent = 0

    def join(self, name: str) -> Node:
        """Start a member; everyone can talk to it at once, but has to see it to take it for one."""
        council = Council(name, self._sender(name), lambda: self.now, lambda: int(self.now * 1e6))
        node = self.nodes[name] = Node(name, council, Gate(self.bounds))
        council.add(KEY, node.gate, self.bounds)
        for other in self.nodes.values():
            if other is not node:
                self.wires[name, other.name] = deque()
                self.wires[other.name, name] = deque()
                council.attach(other.name)
                other.council.attach(name)
        self.see(node)
        for replica in sorted(self.replicas):
            node.gate.open(replica, replica, self.now)
        return node

    def kill(self, name: str) -> Node:
        """End a member without a word."""
        dead = self.nodes.pop(name)
        for other in self.nodes.values():
            self.wires.pop((name, other.name), None)
            self.wires.pop((other.name, name), None)
            other.council.detach(name)
        return dead

    def see(self, node: Node) -> None:
        """Let a member hear who is there."""
        node.council.set_members([Member(name) for name in self.nodes])

    def see_all(self) -> None:
        """Let all members hear who is there."""
        for node in self.nodes.values():
            self.see(node)

    def enter(self, node: Node, size: int = 1, consumer: str = "a") -> Guest:
        """Send a request to a member."""
        self.arrivals += 1
        self.now += 0.001
        guest = Guest(self.now, size, 1e6, consumer)
        guest.slack = self.arrivals
        node.guests.append(guest)
        node.gate.enter(guest, self.now)
        return guest

    def leave(self, node: Node, guest: Guest) -> None:
        """End a request, or let its client go."""
        node.gate.leave(guest)
        node.guests.remove(guest)

    def open(self, replica: str, *, everywhere: bool = True) -> None:
        """Let a replica be ready."""
        self.replicas.add(replica)
        for node in self.nodes.values() if everywhere else ():
            if node.gate.seats.get(replica) is None:
                node.gate.open(replica, replica, self.now)

    def deliver(self, pick: int) -> bool:
        """Let the oldest message of one wire arrive."""
        full = [wire for wire, lines in sorted(self.wires.items()) if lines]
        if not full:
            return False
        source, target = full[pick % len(full)]
        line = self.wires[source, target].popleft()
        self.nodes[target].council.receive(source, decode(line))
        return True

    def settle(self) -> None:
        """Let everyone see and hear everything, until nobody says anything more."""
        self.see_all()
        for _ in range(60):
            for _ in range(10_000):
                if not self.deliver(0):
                    break
            self.now += 0.05
            for node in self.nodes.values():
                node.council.tick()
                node.gate.sweep(self.now, 0.05)
            if not any(self.wires.values()) and all(self.calm()):
                break

    def calm(self) -> Iterator[bool]:
        """Tell of each member whether it knows its part."""
        for node in self.nodes.values():
            part = node.council._parts[KEY]
            yield part.desk.reported if part.desk is not None else part.gate.lent is None

    def in_flight(self, replica: str) -> int:
        """Return the requests that a replica serves, as it sees them."""
        guests = (guest for node in self.nodes.values() for guest in node.guests)
        return sum(guest.seat is not None and guest.seat.key == replica for guest in guests)

    def held(self) -> list[Guest]:
        """Return all requests that wait in the line, in the order in which they came."""
        return sorted((guest for node in self.nodes.values() for guest in node.held), key=lambda guest: guest.slack)

    def _sender(self, name: str) -> Callable[[str, Message], None]:
        def send(target: str, message: Message) -> None:
            wire = self.wires.get((name, target))
            if wire is not None:
                self.sent += 1
                wire.append(encode(message))

        return send
