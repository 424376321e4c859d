"""What an archive says of itself: a manifest for each day that was closed, each naming the one before.

A day of UTC is closed once all of its quarters are sealed. Its manifest names the files that hold its requests,
segments and charges with their digests, and the newest seal of the ledger, so what is archived hangs on the ledger's
chain. A record that comes late makes a further revision of its day; the newest one counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from zerotide.api.scalars import format_time
from zerotide.billing.rating import Period
from zerotide.billing.reports import Report, Us
from zerotide.billing.rollups import DAY, Usage, UsageKey
from zerotide.billing.sealing import GENESIS
from zerotide.billing.statements import Check

FORMAT = "zerotide.dev/archive/1"
REQUESTS, SEGMENTS, CHARGES, SEALS = "requests", "segments", "charges", "seals"


class ArchivedFile(Report):
    """A file of a table, by its path within the archive."""

    table: str
    path: str
    rows: int
    bytes: int
    sha256: str


class Manifest(Report):
    """What is archived of one day. `previous` is the digest of the manifest before it, of whichever day.

    `settled` is how many requests had ended in the day when they were read, `delivered` how many of those in the file
    count as usage, `sealed_until_us` up to where the ledger was sealed, by the seal `seal_number`.
    """

    format: str
    number: int
    previous: str
    day_us: Us
    revision: int
    written_us: Us
    sealed_until_us: Us
    seal_number: int
    seal_hash: str
    settled: int
    delivered: int
    files: tuple[ArchivedFile, ...]

    @property
    def day(self) -> Period:
        """Return the day as a period."""
        return Period(self.day_us, self.day_us + DAY)

    def file(self, table: str) -> ArchivedFile | None:
        """Return a table's file; None where the day has no rows of it."""
        return next((each for each in self.files if each.table == table), None)


class Kept(NamedTuple):
    """A manifest as it is stored, and what it says."""

    text: str
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Return the SHA-256 of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class ArchivedDay(Report):
    """A day in the archive, as a report shows it."""

    day_us: Us
    revision: int
    requests: int
    segments: int
    charges: int
    bytes: int
    seal: int
    digest: str


class ArchiveReport(Report):
    """What an exporter has archived of [from, to), and what was checked of it; not `enabled` where it keeps none."""

    enabled: bool
    from_us: Us
    to_us: Us
    as_of_us: Us
    days: tuple[ArchivedDay, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def differences(self) -> int:
        """Return how many differences were found."""
        return sum(len(check.differences) for check in self.checks)


def text_of(manifest: Manifest) -> str:
    """Return the canonical text of a manifest, which its digest is of."""
    return json.dumps(manifest.dump(), separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def current(kept: Iterable[Kept]) -> dict[int, Kept]:
    """Return the newest revision of each day, by the day's first instant."""
    found: dict[int, Kept] = {}
    for each in kept:
        known = found.get(each.manifest.day_us)
        if known is None or known.manifest.number < each.manifest.number:
            found[each.manifest.day_us] = each
    return dict(sorted(found.items()))


def unchained(kept: Iterable[Kept]) -> Iterator[str]:
    """Yield what is wrong with the chain of manifests, which come in the order of their numbers."""
    number, previous = 0, GENESIS
    for each in kept:
        manifest = each.manifest
        number += 1
        if manifest.number != number or manifest.previous != previous:
            day = format_time(manifest.day_us)
            yield f"manifest {manifest.number} (day {day}) does not follow the one before: one was changed or removed"
            number = manifest.number
        previous = each.digest


def is_due(known: Manifest | None, settled: int, delivered: int, corrected_us: int | None) -> bool:
    """Tell whether a closed day has to be written, again where something came late to it.

    `corrected_us` is the newest bucket with a correction of the day.
    """
    if known is None:
        return True
    changed = corrected_us is not None and corrected_us >= known.sealed_until_us
    return changed or (known.settled, known.delivered) != (settled, delivered)


def days_of(found: Mapping[int, Kept], period: Period) -> list[Kept]:
    """Return the days of an archive that lie in a period, partly or wholly."""
    return [each for day, each in found.items() if day < period.end_us and each.manifest.day.end_us > period.start_us]


def gaps(period: Period, days: Iterable[Period]) -> list[Period]:
    """Return what whole days within a period leave of it, as few periods as there can be."""
    left, low = [], period.start_us
    for day in sorted(days):
        if day.start_us > low:
            left.append(Period(low, day.start_us))
        low = day.end_us
    return left + ([Period(low, period.end_us)] if low < period.end_us else [])


def together(parts: Iterable[Mapping[UsageKey, Usage]]) -> dict[UsageKey, Usage]:
    """Return the sum of usage."""
    total: dict[UsageKey, Usage] = {}
    for part in parts:
        for key, usage in part.items():
            total[key] = total.get(key, Usage()).plus(usage)
    return total


def archived_day(kept: Kept) -> ArchivedDay:
    """Return a day as a report shows it."""
    manifest = kept.manifest
    rows = {each.table: each.rows for each in manifest.files}
    return ArchivedDay(
        day_us=manifest.day_us,
        revision=manifest.revision,
        requests=rows.get(REQUESTS, 0),
        segments=rows.get(SEGMENTS, 0),
        charges=rows.get(CHARGES, 0),
        bytes=sum(each.bytes for each in manifest.files),
        seal=manifest.seal_number,
        digest=kept.digest,
    )
