"""Ask the API server who a caller is (TokenReview) and what they may do (SubjectAccessReview)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from zerotide.kube.client import Client, Object
from zerotide.kube.resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, Resource


@dataclass(frozen=True)
class Identity:
    """A caller that the API server vouches for."""

    username: str
    uid: str
    groups: tuple[str, ...]


class TokenReviewer:
    """Check bearer tokens for one audience (empty: the API server's own); remember answers for a short while.

    Accepted tokens are remembered for `keep` seconds, refused ones for a tenth of that. Only hashes are kept.
    """

    def __init__(
        self, client: Client, audience: str = "", *, keep: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._audience, self._keep, self._clock = client, audience, keep, clock
        self._known: dict[bytes, tuple[float, Identity | None]] = {}

    async def review(self, token: str) -> Identity | None:
        """Return who the token belongs to, or None; raise KubeError when the API server cannot be asked."""
        if not token or len(token) > 16384:
            return None
        digest, now = hashlib.sha256(token.encode()).digest(), self._clock()
        known = self._known.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        identity = await self._ask(token)
        if len(self._known) >= 1024:
            self._known = {key: entry for key, entry in self._known.items() if entry[0] > now}
            if len(self._known) >= 1024:
                self._known.clear()
        self._known[digest] = (now + (self._keep if identity else self._keep / 10), identity)
        return identity

    async def _ask(self, token: str) -> Identity | None:
        spec: Object = {"token": token}
        if self._audience:
            spec["audiences"] = [self._audience]
        body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": spec}
        status = (await self._client.create(TOKEN_REVIEWS, body)).get("status") or {}
        if not status.get("authenticated"):
            return None
        if self._audience and self._audience not in (status.get("audiences") or []):
            return None
        user = status.get("user") or {}
        return Identity(user.get("username", ""), user.get("uid", ""), tuple(user.get("groups") or ()))


async def allowed(
    client: Client, identity: Identity, verb: str, resource: Resource, namespace: str = "", name: str = ""
) -> bool:
    """Tell whether the API server lets this identity do that; an empty namespace means all of them."""
    attributes = {
        "verb": verb,
        "group": resource.group,
        "version": resource.version,
        "resource": resource.plural,
        "namespace": namespace,
        "name": name,
    }
    spec = {
        "user": identity.username,
        "uid": identity.uid,
        "groups": list(identity.groups),
        "resourceAttributes": {key: value for key, value in attributes.items() if value},
    }
    body = {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": SUBJECT_ACCESS_REVIEWS.kind, "spec": spec}
    status = (await client.create(SUBJECT_ACCESS_REVIEWS, body)).get("status") or {}
    return bool(status.get("allowed")) and not status.get("denied")
