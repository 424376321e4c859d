"""Writes that wake endpoints, as the looks that left these asleep have worked them out; each holds until news come."""

from __future__ import annotations

from zerotide.controller.signals import Signals
from zerotide.reconcile.prepared import Prepared


class Ready:
    """What is ready for each endpoint that sleeps, by key."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._prepared: dict[str, Prepared] = {}
        self._current: set[str] = set()
        """Endpoints that are looked at, of which nothing has changed since but the demand."""

    def __contains__(self, key: str) -> bool:
        """Tell whether anything is ready."""
        return key in self._prepared

    def looked(self, key: str) -> None:
        """Note that an endpoint is looked at as it is now."""
        self._current.add(key)

    def keep(self, key: str, prepared: Prepared | None) -> None:
        """Keep what a look worked out, unless something has changed since it began."""
        if prepared is not None and key in self._current:
            self._prepared[key] = prepared

    def changed(self, key: str) -> None:
        """Drop what is ready, and what a look that is under way will work out."""
        self._prepared.pop(key, None)
        self._current.discard(key)

    def called(self, key: str, uid: str, heard_us: int) -> bool:
        """Tell whether an endpoint is called, as was heard just now, and what is ready wakes it."""
        ready = self._prepared.get(key)
        return ready is not None and self._signals.calls(key, uid, ready.most, heard_us)

    def take(self, key: str, uid: str) -> Prepared | None:
        """Return what is ready if it is called for; whoever looks next works it out anew."""
        ready = self._prepared.pop(key, None)
        return ready if ready is not None and self._signals.held(key, uid, ready.most) else None
