"""The flags that bound what is held over all endpoints and activators."""

from __future__ import annotations

from zerotide.activator.admission.hall import DEFAULT, Cap, Caps
from zerotide.activator.failures import SettingsError
from zerotide.api.failures import InvalidQuantity
from zerotide.api.scalars import Quantity
from zerotide.kube.options import Flags, Given

MOST = 10_000_000
_SCOPES = (("total", "in all"), ("namespace", "for one namespace"), ("consumer", "for one consumer"))


def add_flags(flags: Flags) -> None:
    """Declare the flags."""
    for scope, words in _SCOPES:
        cap: Cap = getattr(DEFAULT, scope)
        flags.add(f"hold-{scope}-max-requests", str(cap.requests), f"requests held {words}, over all activators")
        size = f"{cap.bytes // 1024**2}Mi"
        flags.add(f"hold-{scope}-max-bytes", size, f"bytes of their bodies held {words}, over all activators")


def caps_of(given: Given) -> Caps:
    """Read the flags. Raises SettingsError."""
    total, namespace, consumer = (_cap(given, scope) for scope, _ in _SCOPES)
    return Caps(total, namespace, consumer)


def _cap(given: Given, scope: str) -> Cap:
    text = given.text(f"hold-{scope}-max-bytes")
    try:
        size = Quantity(text).units
    except InvalidQuantity as error:
        raise SettingsError(f"--hold-{scope}-max-bytes: {error}") from error
    return Cap(given.number(f"hold-{scope}-max-requests", MOST), size)
