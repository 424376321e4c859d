"""Keep endpoints, keys and replicas as the objects say, whatever order the changes come in.

Pods may come before their endpoint and endpoints before their pods; a deletion that a watch missed comes with the
next list. Everything here happens in the event loop's thread and never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from zerotide.activator.access.tokens import Tokens
from zerotide.activator.admission.budgets import Budgets
from zerotide.activator.admission.callers import Keyring
from zerotide.activator.admission.catalogue import Catalogue
from zerotide.activator.admission.choice import Bounded
from zerotide.activator.admission.ejection import Failure, eject, failed, may_eject
from zerotide.activator.admission.gate import Bounds
from zerotide.activator.admission.hall import DEFAULT, Caps, Hall
from zerotide.activator.admission.naming import Name
from zerotide.activator.admission.profile import Profile, profile_of
from zerotide.activator.council.council import Council
from zerotide.activator.council.membership import Member
from zerotide.activator.endpoints.dialler import dial
from zerotide.activator.endpoints.endpoint import Endpoint, Replica
from zerotide.activator.endpoints.grpc_dialler import dial_grpc
from zerotide.activator.endpoints.peers import members_of
from zerotide.activator.endpoints.pods import Candidate, candidate_of, endpoint_of
from zerotide.activator.wire import Limits, Pool
from zerotide.activator.wire.h2.lines import Lines
from zerotide.api.apikey import APIKey
from zerotide.api.budget import Budget
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.failures import InvalidObject
from zerotide.api.names import PORT_COUNCIL
from zerotide.kube import Change

log = logging.getLogger(__name__)

COURTESY = 0.05
"""Seconds that an activator where nobody waits leaves a new pod to one where somebody may."""


class Hooks(Protocol):
    """What else must know of changes."""

    def changed(self, endpoint: Endpoint) -> None:
        """Look at an endpoint whose object changed."""

    def gone(self, endpoint: Endpoint) -> None:
        """Drop what was kept of an endpoint that was deleted."""


class Registry:
    """All that is known of the cluster, and the replicas that are dialled for it."""

    def __init__(
        self, me: str, now_us: Callable[[], int], now: Callable[[], float], limits: Limits, caps: Caps = DEFAULT
    ) -> None:
        self.catalogue = Catalogue()
        self.keyring = Keyring()
        self.budgets = Budgets()
        self.tokens = Tokens(now)
        self.endpoints: dict[Name, Endpoint] = {}
        self.hooks: list[Hooks] = []
        self.version = 0
        """Grows with every change of what the head of a request may lead to."""
        self._me, self._now_us, self._now, self.limits = me, now_us, now, limits
        self.now = now
        self._members: frozenset[Member] = frozenset()
        self._leading: frozenset[str] = frozenset((me,))
        self.council_port = PORT_COUNCIL
        self.council = Council(me, None, now, now_us)
        self._caps = caps
        self.hall = Hall(caps)
        self._candidates: dict[Name, dict[str, tuple[Candidate, int]]] = {}
        self._homes: dict[tuple[str, str], tuple[Name, str]] = {}
        self._peers: dict[tuple[str, str], Any] = {}

    # Changes

    def endpoint_changed(self, change: Change) -> None:
        """Take in a change of an InferenceEndpoint."""
        metadata = change.object["metadata"]
        name = Name(metadata.get("namespace", ""), metadata["name"])
        if change.type == "deleted" or metadata.get("deletionTimestamp"):
            self._remove(name)
            return
        try:
            profile = profile_of(InferenceEndpoint.parse(change.object))
        except InvalidObject as error:
            log.error("an endpoint cannot be read", extra={"endpoint": str(name), "error": str(error)})
            return
        self.set_profile(profile)

    def set_profile(self, profile: Profile) -> None:
        """Take in an endpoint's new profile."""
        self.version += 1
        name = Name(profile.namespace, profile.name)
        endpoint = self.endpoints.get(name)
        if endpoint is not None and endpoint.profile.uid != profile.uid:
            self._remove(name)
            endpoint = None
        if endpoint is None:
            endpoint = self.endpoints[name] = Endpoint(profile, bounds_of(profile), self.hall)
            self.council.add(profile.uid, endpoint.gate, bounds_of(profile))
        endpoint.profile = profile
        routing = profile.routing
        endpoint.gate.choose = Bounded(routing.max_load_percent) if routing.by_affinity else None
        self.catalogue.set(profile)
        self.council.rebound(profile.uid, bounds_of(profile))
        blocked = profile.blocked
        if blocked is not None:
            endpoint.demand_us = None
            endpoint.gate.refuse_all(lambda: blocked.rejection(self._now_us()))
        self._dial(name)
        for hook in self.hooks:
            hook.changed(endpoint)

    def key_changed(self, change: Change) -> None:
        """Take in a change of an APIKey."""
        self.version += 1
        metadata = change.object["metadata"]
        if change.type == "deleted":
            self.keyring.remove(metadata.get("namespace", ""), metadata["name"])
            return
        try:
            self.keyring.set(APIKey.parse(change.object))
        except InvalidObject as error:
            self.keyring.remove(metadata.get("namespace", ""), metadata["name"])
            log.error("an API key cannot be read", extra={"key": metadata["name"], "error": str(error)})

    def budget_changed(self, change: Change) -> None:
        """Take in a change of a Budget."""
        metadata = change.object["metadata"]
        name = Name(metadata.get("namespace", ""), metadata["name"])
        if change.type == "deleted":
            self.version += self.budgets.remove(name)
            return
        try:
            self.version += self.budgets.set(Budget.parse(change.object), self._now_us())
        except InvalidObject as error:
            log.error("a budget cannot be read", extra={"budget": str(name), "error": str(error)})

    def pod_changed(self, change: Change) -> None:
        """Take in a change of a model pod."""
        pod = change.object
        key = (pod["metadata"].get("namespace", ""), pod["metadata"]["name"])
        before = self._homes.pop(key, None)
        name = endpoint_of(pod)
        candidate = candidate_of(pod) if change.type == "set" else None
        if before is not None and (candidate is None or before != (name, candidate.uid)):
            self._candidates.get(before[0], {}).pop(before[1], None)
            self._dial(before[0])
        if name is not None and candidate is not None:
            self._homes[key] = (name, candidate.uid)
            known = self._candidates.setdefault(name, {}).get(candidate.uid)
            if known is None or known[0] != candidate:
                self._candidates[name][candidate.uid] = (candidate, self._now_us())
                self._dial(name)

    def peer_changed(self, change: Change) -> None:
        """Take in a change of an activator's pod."""
        metadata = change.object["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if change.type == "deleted":
            self._peers.pop(key, None)
        else:
            self._peers[key] = change.object
        self.set_members(members_of(self._peers.values(), self.council_port))

    def set_members(self, members: Iterable[Member]) -> None:
        """Act as one with these activators, or share bounds among those that lead where they cannot be talked to."""
        members = frozenset(members)
        if members == self._members:
            return
        self._members = members
        self.version += 1
        self._leading = frozenset(member.name for member in members if member.leads)
        self.hall.caps = self._caps.shared(self._me, self._leading)
        self.council.set_members(members if self.council.send is not None else (m for m in members if m.leads))

    # Replicas

    def failed(self, endpoint: Endpoint, replica: Replica, how: Failure) -> bool:
        """Send nothing to a replica that seems gone until it answers again; tell whether it was ejected for a while."""
        if endpoint.replicas.get(replica.uid) is not replica or (replica.dialling and not replica.dialling.done()):
            return False
        now = self._now()
        replica.health = failed(replica.health, now)
        ejected = sum(each.health.until > now for each in endpoint.replicas.values())
        usable = sum(each.ready_us is not None for each in endpoint.replicas.values())
        ejecting = may_eject(replica.health, usable, ejected) and endpoint.gate.has_beside(replica.uid)
        if ejecting:
            replica.health = eject(replica.health, now)
            replica.recalled.clear()
            log.warning(
                "a replica is ejected",
                extra={
                    "endpoint": endpoint.profile.key,
                    "pod": replica.candidate.name,
                    "failure": how.value,
                    "seconds": replica.health.until - now,
                },
            )
        if ejecting or how in (Failure.CONNECT, Failure.LOST):
            self._shut(endpoint, replica.uid)
            self._start_dialling(endpoint, replica)
        return ejecting

    def keep_keys(self) -> None:
        """Forget the keys of issuers that no endpoint trusts any more."""
        trusts = (endpoint.profile.trust for endpoint in self.endpoints.values())
        self.tokens.keep({trust.source for trust in trusts if trust is not None})

    def close(self) -> None:
        """Dial nothing any more, and read no keys."""
        self.tokens.close()
        for endpoint in self.endpoints.values():
            for replica in endpoint.replicas.values():
                replica.close()

    def _dial(self, name: Name) -> None:
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            return
        candidates = self._candidates.get(name, {})
        for uid, replica in list(endpoint.replicas.items()):
            known = candidates.get(uid)
            stale = (replica.lines is not None) is not endpoint.profile.grpc
            if known is None or known[0] != replica.candidate or stale:
                replica.close()
                del endpoint.replicas[uid]
                self._shut(endpoint, uid)
        endpoint.settled()
        for uid, (candidate, seen_us) in candidates.items():
            if uid not in endpoint.replicas:
                address, port = candidate.address, candidate.port_for(endpoint.profile)
                lines = Lines(address, port, self.limits) if endpoint.profile.grpc else None
                pool = Pool(address, port, self.limits)
                replica = endpoint.replicas[uid] = Replica(candidate, pool, seen_us, lines)
                self._start_dialling(endpoint, replica, 0.0 if endpoint.gate.held else COURTESY)

    def _shut(self, endpoint: Endpoint, uid: str) -> None:
        """Send nothing more to a replica; ejected ones are asked again at once where it was the last."""
        endpoint.gate.close(uid)
        if endpoint.gate.cold:
            for replica in endpoint.replicas.values():
                replica.recalled.set()

    def _start_dialling(self, endpoint: Endpoint, replica: Replica, pause: float = 0.0) -> None:
        replica.dialling = asyncio.get_running_loop().create_task(self._until_ready(endpoint, replica, pause))

    async def _until_ready(self, endpoint: Endpoint, replica: Replica, pause: float) -> None:
        def connected() -> None:
            replica.connect_us = replica.connect_us or self._now_us()

        if pause:
            await asyncio.sleep(pause)
        ejected = replica.health.until - self._now()
        if ejected > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(replica.recalled.wait(), ejected)
        if replica.lines is not None:
            await dial_grpc(replica.lines, endpoint.profile.key, connected)
        else:
            candidate, profile = replica.candidate, endpoint.profile
            question = candidate.question_for(profile)
            await dial(replica.pool, candidate.path_for(profile), profile.key, connected, question)
        if replica.ready_us is None:
            replica.ready_us = self._now_us()
            endpoint.started(replica)
        endpoint.gate.open(replica.uid, replica, self._now())
        log.info("replica ready", extra={"endpoint": endpoint.profile.key, "pod": replica.candidate.name})

    # Endpoints

    def _remove(self, name: Name) -> None:
        self.version += 1
        self.catalogue.remove(*name)
        endpoint = self.endpoints.pop(name, None)
        if endpoint is None:
            return
        for replica in endpoint.replicas.values():
            endpoint.gate.close(replica.uid)
            replica.close()
        endpoint.replicas.clear()
        endpoint.gate.refuse_all(
            lambda: Rejection(ErrorCode.ENDPOINT_NOT_FOUND, f"endpoint {name} was deleted while the request waited")
        )
        self.council.remove(endpoint.profile.uid)
        for hook in self.hooks:
            hook.gone(endpoint)


def bounds_of(profile: Profile) -> Bounds:
    """Return an endpoint's bounds over all activators."""
    return Bounds(
        max_requests=profile.max_requests,
        max_bytes=profile.max_bytes,
        per_replica=profile.limit,
        cold_timeout=profile.cold_timeout,
        busy_timeout=profile.busy_timeout,
        holds=profile.holds,
    )
