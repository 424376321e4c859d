"""How kopf runs here: a bare watch on our own kind, nothing written, nothing scanned, no peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import kopf


class Forgetful(kopf.DiffBaseStorage):
    """Remember nothing of an object: event handlers are told what is, not what changed, so a copy is wasted work."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        """Return nothing of the object."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


class Idle(kopf.ProgressStorage):
    """Remember no progress: event handlers make none, and looking for it copies what there is of each object."""

    def fetch(self, *, key: str, body: kopf.Body) -> Any:
        """Return nothing."""
        return None

    def store(self, *, key: str, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Keep nothing."""

    def purge(self, *, key: str, body: kopf.Body, patch: kopf.Patch) -> None:
        """Have nothing to forget."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Touch nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Return what there is: nothing of it is ours."""
        return essence


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings.

    kopf handles each event at once: it has no batching any more, and event handlers neither wait for consistency
    nor write. Its watch is given up after 70 s without a bookmark. It lists a hundred at a time, because it has all
    objects of a page in memory at once, and what was needed once is never given back. For the same reason its workers,
    of which each object has one that holds what came last, end soon: ten thousand would hold a list's objects at once.
    """
    chosen = kopf.OperatorSettings()
    chosen.persistence.diffbase_storage = Forgetful()
    chosen.persistence.progress_storage = Idle()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.peering.standalone = True
    chosen.watching.server_timeout = 300
    chosen.watching.connect_timeout = 10
    chosen.watching.inactivity_timeout = 70
    chosen.watching.chunk_size = 100
    chosen.queueing.idle_timeout = 0.2
    chosen.networking.connect_timeout = 10
    chosen.networking.request_timeout = 30
    chosen.process.ultimate_exiting_timeout = 60
    return chosen
