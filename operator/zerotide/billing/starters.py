"""Who pays while replicas start, by the endpoint's rule: the parts of each replica's start sum to 1."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from zerotide.billing.ledger import ColdStart, Ledger
from zerotide.billing.split import split_flights
from zerotide.billing.wakes import pods_by_wake

Parts = Mapping[str, Fraction]


def starters(ledger: Ledger) -> dict[str, Parts]:
    """Return the payers of each pod's start, by pod uid; pods that are missing are the owner's.

    Those are the pods that no request woke, and by ProRata those that served nobody.
    """
    match ledger.records.cold_start:
        case ColdStart.TRIGGER:
            return _triggers(ledger)
        case ColdStart.PRO_RATA:
            return _served(ledger)
        case _:
            return {}


def _triggers(ledger: Ledger) -> dict[str, Parts]:
    first: dict[str, tuple[int, str]] = {}
    for attempt in ledger.records.attempts:
        if attempt.wake_id:
            came = (attempt.forwarded_us, attempt.consumer)
            first[attempt.wake_id] = min(first.get(attempt.wake_id, came), came)
    return {
        life.pod_uid: {first[wake_id][1]: Fraction(1)}
        for wake_id, lives in pods_by_wake(ledger).items()
        if wake_id in first
        for life in lives
    }


def _served(ledger: Ledger) -> dict[str, Parts]:
    found: dict[str, Parts] = {}
    for life in ledger.lifetimes:
        shares = split_flights(ledger.flights.get(life.pod_uid, ()), life.start_us, life.end_us)
        whole = sum(shares.values(), Fraction(0))
        if whole:
            found[life.pod_uid] = {consumer: share / whole for consumer, share in shares.items()}
    return found
