"""Check an archive: that nothing of it was changed, and that it is what the ledger says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from zerotide.api.scalars import format_time
from zerotide.billing.archives import (
    CHARGES,
    SEALS,
    ArchiveReport,
    Kept,
    Manifest,
    archived_day,
    current,
    days_of,
    unchained,
)
from zerotide.billing.rating import Period
from zerotide.billing.rollups import QUARTER, rollup_check
from zerotide.billing.sealing import Link, Seal, digest
from zerotide.billing.statements import Check
from zerotide.exporter.archive import parquet
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.seals import links
from zerotide.exporter.store import Store


def archive_report(archive: Archive | None, store: Store, period: Period, now_us: int, *, check: bool) -> ArchiveReport:
    """Return what is archived of a period, checked where that is asked for. Raises StoreError and ArchiveError."""
    if archive is None:
        return ArchiveReport(enabled=False, from_us=period.start_us, to_us=period.end_us, as_of_us=now_us)
    with archive.reading:
        kept = archive.folder.kept()
        days = days_of(current(kept), period)
        return ArchiveReport(
            enabled=True,
            from_us=period.start_us,
            to_us=period.end_us,
            as_of_us=now_us,
            days=tuple(map(archived_day, days)),
            checks=archive_checks(archive, store, kept, days) if check else (),
        )


def archive_checks(archive: Archive, store: Store, kept: Sequence[Kept], days: Sequence[Kept]) -> tuple[Check, ...]:
    """Check the whole chain of manifests, and some days of it against their files and the ledger."""
    manifests = [each.manifest for each in days]
    changed = (*unchained(kept), *(found for each in manifests for found in archive.folder.changed(each)))
    whole = Check(
        law="archived files are what their manifests say, each the hash of the one before",
        checked=sum(len(each.files) for each in manifests),
        differences=changed,
    )
    if changed:
        # What was changed need not even be Parquet.
        return (whole,)
    return (whole, _sealed(archive, store, manifests), _summed(archive, store, manifests))


def _sealed(archive: Archive, store: Store, manifests: Iterable[Manifest]) -> Check:
    """Compute the seals of archived charges anew, and compare them with the ledger's."""
    checked, wrong = 0, list[str]()
    for manifest in manifests:
        seals = [Seal(*row) for row in archive.rows(manifest, SEALS)]
        archived = {link.bucket_us: link for link in links(seals, archive.rows(manifest, CHARGES))}
        newest = Period(manifest.sealed_until_us - QUARTER, manifest.sealed_until_us)
        for link in (*store.seals.walk(list, manifest.day), *store.seals.walk(list, newest)):
            checked += 1
            if link.bucket_us == newest.start_us and (link.seal is None or link.seal.hash != manifest.seal_hash):
                wrong.append(f"day {_day(manifest)}: the ledger's seal {manifest.seal_number} has another hash since")
            if manifest.day_us <= link.bucket_us < manifest.day.end_us:
                wrong += _differing(link, archived.get(link.bucket_us))
    return Check(law="archived charges are those of the ledger's seals", checked=checked, differences=tuple(wrong))


def _differing(ledgers: Link, archived: Link | None) -> Iterator[str]:
    if archived is None or ledgers.seal is None or digest(ledgers.seal, archived.rows) != ledgers.seal.hash:
        yield f"bucket {format_time(ledgers.bucket_us)}: the archive holds other charges than the ledger's seal covers"


def _summed(archive: Archive, store: Store, manifests: Iterable[Manifest]) -> Check:
    """Compare archived requests with the sums of usage; what came late since is not of it."""
    checked, wrong = 0, list[str]()
    for manifest in manifests:
        if store.delivered(manifest.day).get(manifest.day_us, 0) != manifest.delivered:
            continue
        paths = archive.folder.requests(manifest)
        archived = parquet.usage(archive.folder.path, paths, "", "", manifest.day)
        found = rollup_check(store.usage("", "", manifest.day), archived)
        checked += found.checked
        wrong += [f"day {_day(manifest)}: {each}" for each in found.differences]
    return Check(law="archived requests add up to the sums of usage", checked=checked, differences=tuple(wrong))


def _day(manifest: Manifest) -> str:
    return format_time(manifest.day_us)[:10]
