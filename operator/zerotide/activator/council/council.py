"""All endpoints of one member: whose line each is in, and what happens while somebody cannot be reached.

An endpoint's owner is found by rendezvous hashing over the members that lead. One that became the owner lets nothing
new through until all members that are there have reported what they use and who waits, or could not be reached for
`GRACE` seconds. A member that cannot reach the owner for as long keeps to its shares of the bounds, which the owner
leaves to it. So bounds are exact while all can talk, and never exceeded for long while some cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zerotide.activator.admission.gate import Bounds, Gate
from zerotide.activator.admission.shares import share, share_of_limit
from zerotide.activator.council.desk import Desk
from zerotide.activator.council.epoch import Epoch
from zerotide.activator.council.membership import Member, owner_of
from zerotide.activator.council.messages import (
    Ask,
    Back,
    Closed,
    Common,
    Drop,
    Message,
    NotMine,
    Opened,
    Report,
)
from zerotide.activator.council.owner import Owner
from zerotide.activator.council.pools import Pools

GRACE = 1.0
"""Seconds for which a member that cannot be reached is waited for."""
PATIENCE = 3.0
"""Seconds for which members that can talk may disagree about who leads; then they keep to shares, and try again."""
YOUNG = 5.0
"""Seconds from a member's own start for which others may have been here before it knew of them."""
IDLE = 5.0
"""Seconds between two looks for seats that are lent and not needed."""
_TO_OWNER = Ask | Report | Drop | Back | Opened | Closed


class _Part:
    """One endpoint's gate, its bounds over all members, and this member's part."""

    __slots__ = ("bounds", "desk", "doubted", "gate", "keeper", "key", "owner", "refused", "since")

    def __init__(self, key: str, gate: Gate[Any], bounds: Bounds) -> None:
        self.key, self.gate, self.bounds = key, gate, bounds
        self.owner = ""
        self.keeper: Owner | None = None
        self.desk: Desk | None = None
        """None at the owner, and where this member keeps to its shares."""
        self.since = 0.0
        """Since when it has had this owner, waits for it, or keeps to shares."""
        self.doubted = self.refused = -PATIENCE
        """Since when the owner has been saying that it is none, and when it said so last."""


class Council:
    """Give every endpoint its part; `send` says something to a linked member, None where nobody can be talked to."""

    def __init__(
        self,
        me: str,
        send: Callable[[str, Message], None] | None,
        now: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self.me, self.send, self._now, self._epoch = me, send, now, Epoch(now, now_us)
        self.members: dict[str, Member] = {}
        """The others."""
        self.linked: set[str] = set()
        self._leaders: tuple[str, ...] = (me,)
        self._parts: dict[str, _Part] = {}
        self._unsettled: set[str] = set()
        self._unlinked: dict[str, float] = {}
        self._met = {me}
        self._born = now()
        self._idle_at = self._born + IDLE
        self.pools = Pools(me, self._say)
        """Limits that all members keep together."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all members that are there, this one among them."""
        counting = (name for name, member in self.members.items() if member.counts)
        return tuple(sorted({*counting, self.me}))

    # Endpoints

    def add(self, key: str, gate: Gate[Any], bounds: Bounds) -> None:
        """Take an endpoint in."""
        part = self._parts[key] = _Part(key, gate, bounds)
        self._assign(part)

    def rebound(self, key: str, bounds: Bounds) -> None:
        """Set an endpoint's bounds over all members."""
        part = self._parts[key]
        part.bounds = bounds
        self._bind(part)

    def remove(self, key: str) -> None:
        """Forget an endpoint."""
        part = self._parts.pop(key, None)
        self._unsettled.discard(key)
        if part is not None and part.keeper is not None:
            part.keeper.resign()

    def owner(self, key: str) -> str:
        """Return who keeps an endpoint's line."""
        return self._parts[key].owner

    # Members

    def set_members(self, members: Iterable[Member]) -> None:
        """Take in who is there."""
        now, known = self._now(), {member.name: member for member in members}
        mine = known.pop(self.me, None)
        gone = set(self.members) - set(known)
        for name, before in self.members.items():
            # One that counted does so until it is gone: it may serve what it has.
            if name in known and before.counts and not known[name].counts:
                known[name] = known[name]._replace(counts=True)
        self.members = known
        counting = {name for name, member in known.items() if member.counts}
        leaders = [member.name for member in known.values() if member.leads]
        if mine is not None and mine.leads:
            leaders.append(self.me)
        if not leaders:
            leaders = [*known, self.me]
        self._leaders = tuple(sorted(leaders))
        for name in counting - self.linked:
            self._unlinked.setdefault(name, now)
        for name in gone - self.linked:
            self._forget(name)
        self._wait_for(counting)
        self._share_pools()
        for part in self._parts.values():
            self._assign(part)

    def attach(self, name: str) -> None:
        """Take in that a member can be talked to."""
        self.linked.add(name)
        self._unlinked.pop(name, None)
        self._wait_for((name,))
        self.pools.attach(name)
        for part in self._parts.values():
            if part.owner == name:
                self._report(part)

    def detach(self, name: str) -> None:
        """Take in that a member cannot be talked to any more."""
        self.linked.discard(name)
        self.pools.detach(name, name in self.names)
        now = self._now()
        for part in self._parts.values():
            if part.owner == name and part.desk is not None:
                part.desk.cut()
                part.since = now
                self._unsettled.add(part.key)
        if name in self.names:
            self._unlinked[name] = now
            self._leave_shares(name)
        else:
            self._forget(name)

    def receive(self, name: str, message: Message) -> None:
        """Take in what a member says."""
        if isinstance(message, Common):
            self.pools.receive(name, message)
            return
        part = self._parts.get(message.key)
        if isinstance(message, _TO_OWNER):
            if part is None or part.keeper is None:
                self._say(name, NotMine(message.key))
            else:
                part.keeper.receive(name, message, self._now())
        elif part is not None and part.desk is not None and part.owner == name:
            part.desk.receive(message)
            if not part.desk.reported:
                self._doubt(part)

    def tick(self) -> None:
        """Go on where somebody is waited for; to be called a few times a second."""
        now = self._now()
        for name, since in self._unlinked.items():
            if now - since >= GRACE:
                self._leave_shares(name)
                self.pools.give_up(name)
        for key in list(self._unsettled):
            self._settle(self._parts[key], now)
        self.pools.tick(now, PATIENCE)
        if now >= self._idle_at:
            self._idle_at = now + IDLE
            self.pools.give_back_idle()
            for part in self._parts.values():
                if part.desk is not None and not part.gate.busy:
                    part.desk.give_back_idle()

    # Steps

    def _assign(self, part: _Part) -> None:
        if self.send is None:
            self._bind(part)
            return
        owner = owner_of(part.key, self._leaders)
        if owner == part.owner:
            self._bind(part)
            return
        alone, part.owner, part.since = not part.owner or part.keeper is not None, owner, self._now()
        if owner == self.me:
            part.desk = None
            old = self._now() - self._born >= YOUNG
            awaited = () if alone and old else ({*self.names} | self.linked) - {self.me}
            part.keeper = self._keeper(part, awaited)
            if awaited:
                self._unsettled.add(part.key)
        else:
            if part.keeper is not None:
                part.keeper.resign()
                part.keeper = None
            self._sit_down(part)
        self._bind(part)

    def _share_pools(self) -> None:
        self.pools.set_members(
            self._leaders if self.send is not None else (self.me,), self.names, self.send is not None
        )

    def _wait_for(self, names: Iterable[str]) -> None:
        """Wait for members that this one did not know when it started: they may have been here before it."""
        if self._now() - self._born >= YOUNG:
            return
        new = set(names) - self._met
        self._met |= new
        for part in self._parts.values() if new else ():
            if part.keeper is not None:
                part.keeper.wait_for(new)
                self._unsettled.add(part.key)

    def _keeper(self, part: _Part, awaited: Iterable[str]) -> Owner:
        return Owner(part.key, part.gate, self._say, self._epoch, awaited)

    def _say(self, name: str, message: Message) -> None:
        if name in self.linked and self.send is not None:
            self.send(name, message)

    def _sit_down(self, part: _Part) -> None:
        owner = part.owner
        part.desk = Desk(part.key, part.gate, lambda message: self._say(owner, message), self._epoch.of)
        self._unsettled.add(part.key)
        if owner in self.linked:
            self._report(part)

    def _report(self, part: _Part) -> None:
        if part.keeper is not None:
            return
        if part.desk is None:
            self._sit_down(part)
            self._bind(part)
        elif not part.desk.reported:
            part.desk.report()
            self._unsettled.discard(part.key)

    def _settle(self, part: _Part, now: float) -> None:
        keeper, desk = part.keeper, part.desk
        if keeper is not None:
            if now - part.since >= PATIENCE:
                for name in sorted(keeper.awaited):
                    self._leave_share(part, keeper, name)
            if not keeper.awaited:
                self._unsettled.discard(part.key)
        elif desk is None:
            if part.owner not in self.linked:
                self._unsettled.discard(part.key)
            elif now - part.since >= PATIENCE:
                self._report(part)
        elif part.owner in self.linked and now - max(part.doubted, part.since) < PATIENCE:
            self._report(part)
        elif now - part.since >= GRACE:
            part.desk, part.since = None, now
            self._bind(part)
            part.gate.lead()

    def _doubt(self, part: _Part) -> None:
        now = self._now()
        if now - part.refused > GRACE:
            part.doubted = now
        part.refused = now
        self._unsettled.add(part.key)

    def _bind(self, part: _Part) -> None:
        """Set the bounds of a gate: all of them where its line is kept for all, else this member's shares."""
        bounds, names = part.bounds, self.names
        if part.keeper is None and part.desk is None and len(names) > 1:
            bounds = Bounds(
                max_requests=share(bounds.max_requests, self.me, names),
                max_bytes=share(bounds.max_bytes, self.me, names),
                per_replica=share_of_limit(bounds.per_replica, self.me, names) if bounds.per_replica else 0,
                cold_timeout=bounds.cold_timeout,
                busy_timeout=bounds.busy_timeout,
                holds=bounds.holds,
            )
        part.gate.rebound(bounds)

    def _leave_shares(self, name: str) -> None:
        for part in self._parts.values():
            if part.keeper is not None:
                self._leave_share(part, part.keeper, name)

    def _leave_share(self, part: _Part, keeper: Owner, name: str) -> None:
        bounds, names = part.bounds, self.names
        seats = share_of_limit(bounds.per_replica, name, names) if bounds.per_replica else 0
        held = share(bounds.max_requests, name, names), share(bounds.max_bytes, name, names)
        keeper.lost(name, seats, held)

    def _forget(self, name: str) -> None:
        self._unlinked.pop(name, None)
        for part in self._parts.values():
            if part.keeper is not None:
                part.keeper.gone(name)
