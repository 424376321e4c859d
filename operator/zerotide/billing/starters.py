"""Who pays while replicas start, by the endpoint's rule: the parts of each replica's start sum to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from zerotide.billing.ledger import ColdStart, Ledger, flights_of
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
    # By pod as well as by wake: a quick wake has requests that do not know its name.
    first: dict[str, tuple[int, str]] = {}
    for attempt in ledger.records.attempts:
        if attempt.wake_id:
            came = (attempt.forwarded_us, attempt.consumer)
            for key in (attempt.wake_id, attempt.pod_uid):
                first[key] = min(first.get(key, came), came)
    found: dict[str, Parts] = {}
    for wake_id, lives in pods_by_wake(ledger).items():
        known = [first[key] for key in (wake_id, *(life.pod_uid for life in lives)) if key in first]
        if known:
            found |= {life.pod_uid: {min(known)[1]: Fraction(1)} for life in lives}
    return found


def _served(ledger: Ledger) -> dict[str, Parts]:
    # One whose end is not known would take a growing share as time passes, and change what is sealed without a record.
    over = tuple(attempt for attempt in ledger.records.attempts if attempt.ended_us is not None)
    flights = flights_of(replace(ledger.records, attempts=over), ledger.as_of_us)
    found: dict[str, Parts] = {}
    for life in ledger.lifetimes:
        shares = split_flights(flights.get(life.pod_uid, ()), life.start_us, life.end_us)
        whole = sum(shares.values(), Fraction(0))
        if whole:
            found[life.pod_uid] = {consumer: share / whole for consumer, share in shares.items()}
    return found
