"""Closed days lie in Parquet files that say what the ledger says, whoever dies while they are written."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.billing.worlds import T0
from tests.exporter.records import intent, settlement
from tests.exporter.test_sealing import PRICES, at, seal
from tests.exporter.test_stores import ENDPOINT, AnyStore, Open, lived, opened, server, uid
from zerotide.api.scalars import HOUR, SECOND
from zerotide.api.usage import Intent, Outcome, Settlement
from zerotide.billing.archives import CHARGES, REQUESTS, SEGMENTS, Kept, Manifest, current, text_of, unchained
from zerotide.billing.ledger import folded
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER
from zerotide.exporter.archive import parquet
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.archive.checks import archive_checks
from zerotide.exporter.archive.disk import PART, Disk, digest, locked
from zerotide.exporter.errors import ArchiveDamaged, ArchiveUnavailable
from zerotide.exporter.sqlite import SQLiteStore

__all__ = ["opened", "server"]

DAY0 = T0 // DAY * DAY
NOW = DAY0 + 3 * DAY + 2 * HOUR
EVER = Period(DAY0, DAY0 + 3 * DAY)
ODD = ("NULL", 'a"b', "a\\b", "a,b", " a ", "a\nb\r\nc\t", "ä€\U0001f600", "'", "")


def requests(numbers: range, ended_us: int | None = None) -> list[Intent | Settlement]:
    """Return the records of requests over three days, a few of them lost, with consumers of all sorts."""
    chance, made = random.Random(numbers.start), list[Intent | Settlement]()
    for number in numbers:
        end = T0 + chance.randrange(2 * DAY) if ended_us is None else ended_us
        who = f"demo/{ODD[number % (len(ODD) - 1)]}"
        outcome = Outcome.LOST if number % 7 == 0 else Outcome.COMPLETED
        made.append(intent(str(number), forwarded_us=end - SECOND, pod_uid=uid("u1"), consumer=who))
        made.append(settlement(str(number), ended_us=end, tokens=(number, number // 2, 3 * number), outcome=outcome))
    return made


def filled(store: AnyStore) -> AnyStore:
    """Return a ledger of three days, sealed beyond their end."""
    store.add_endpoint(ENDPOINT._replace(cold_start="Owner", split="Equal"))
    store.add_facts(lived("u1", scheduled=0, started=5, ready=20, finished=180_000), T0)
    store.add_facts(lived("u2", scheduled=60_000, started=60_005, ready=60_020), T0)
    store.add_usage(requests(range(60)), [], T0)
    seal(store, NOW)
    return store


def manifests(archive: Archive) -> list[Manifest]:
    """Return the newest manifest of each day."""
    return [each.manifest for each in current(archive.folder.kept()).values()]


def differences(archive: Archive, store: AnyStore) -> list[str]:
    """Return all that a check finds."""
    kept = archive.folder.kept()
    checks = archive_checks(archive, store, kept, list(current(kept).values()))
    return [each for check in checks for each in check.differences]


def files(archive: Archive) -> dict[str, str]:
    """Return what lies in an archive, by path."""
    root = archive.folder.path
    return {str(path.relative_to(root)): digest(path) for path in root.rglob("*") if path.is_file()}


def test_every_closed_day_is_written_once_and_says_what_the_ledger_says(opened: Open, tmp_path: Path) -> None:
    store, archive = filled(opened()), Archive(tmp_path / "archive")
    assert archive.write_due(store, NOW, most=2) == 2
    assert archive.write_due(store, NOW) == 1
    before = files(archive)
    assert archive.write_due(store, NOW) == 0
    assert files(archive) == before
    days = manifests(archive)
    assert [(each.day_us, each.revision) for each in days] == [(DAY0 + n * DAY, 1) for n in range(3)]
    assert differences(archive, store) == []

    rows = [row for day in days for row in archive.rows(day, REQUESTS)]
    # The adapter is in the record as it came.
    assert sorted(row[:15] for row in rows) == sorted(tuple(each)[:15] for each in store.attempts())
    assert {row[16] for row in rows} == {record.model_dump_json(by_alias=True) for record in requests(range(60))[1::2]}
    lives = [life for each in store.records("", "", EVER) for life in folded(each, NOW).lifetimes]
    for life in lives:
        mine = [row for day in days for row in archive.rows(day, SEGMENTS) if row[1] == life.pod_uid]
        within = min(life.end_us, EVER.end_us) - life.created_us
        assert sum(row[13] - row[12] for row in mine) == within
    charges = [row for day in days for row in archive.rows(day, CHARGES)]
    stored = [(link.bucket_us, *row) for link in store.seals.walk(list, EVER) for row in link.rows]
    assert sorted(charges) == sorted(stored)


def test_usage_from_an_archive_is_that_of_requests_and_sums(opened: Open, tmp_path: Path) -> None:
    store, archive = filled(opened()), Archive(tmp_path / "archive")
    archive.folder.make()
    chance = random.Random(5)
    edges = [(EVER.start_us, EVER.end_us), (0, NOW), (T0 + 1, T0 + 1)]
    edges += [(chance.randrange(*EVER), chance.randrange(*EVER)) for _ in range(12)]
    for written in (False, True):
        if written:
            archive.write_due(store, NOW)
        for low, high in edges:
            period = Period(min(low, high), max(low, high))
            expected = store.usage_raw("", "", period)
            assert archive.usage(store, "", "", period) == expected == store.usage("", "", period)
            assert archive.usage(store, "demo", "smollm2", period) == expected
            assert archive.usage(store, "demo", "other", period) == archive.usage(store, "else", "", period) == {}
    assert sum(each.requests for each in archive.usage(store, "", "", EVER).values()) == 51


def test_what_comes_late_is_in_reports_at_once_and_in_a_new_revision(opened: Open, tmp_path: Path) -> None:
    store, archive = filled(opened()), Archive(tmp_path / "archive")
    archive.write_due(store, NOW)
    store.add_usage(requests(range(101, 104), DAY0 + DAY + 5 * HOUR), [], NOW)
    assert archive.usage(store, "", "", EVER) == store.usage("", "", EVER)
    assert differences(archive, store) == [], "what came late since is no difference"
    assert archive.write_due(store, NOW + 1) == 1
    assert [each.revision for each in manifests(archive)] == [1, 2, 1]
    # The seal that corrects the charges for them is of a later day, and shows that segments differ.
    seal(store, NOW + QUARTER)
    assert archive.write_due(store, NOW + QUARTER) == 1
    assert archive.write_due(store, NOW + QUARTER) == 0
    assert [each.revision for each in manifests(archive)] == [1, 3, 1]
    assert archive.usage(store, "", "", EVER) == store.usage("", "", EVER) == store.usage_raw("", "", EVER)
    assert differences(archive, store) == []
    named = {file.path for each in manifests(archive) for file in each.files}
    assert {name for name in files(archive) if name.endswith(".parquet")} == named


def test_a_late_end_shows_in_the_segments_of_its_days(opened: Open, tmp_path: Path) -> None:
    store, archive = filled(opened()), Archive(tmp_path / "archive")
    archive.write_due(store, NOW)
    store.add_facts(lived("u2", scheduled=60_000, started=60_005, ready=60_020, finished=100_000), NOW)
    seal(store, NOW + QUARTER)
    assert archive.write_due(store, NOW + QUARTER) == 2
    rows = [row for day in manifests(archive) for row in archive.rows(day, SEGMENTS) if row[1] == uid("u2")]
    assert max(row[13] for row in rows) == at(100_000)
    assert differences(archive, store) == []


def test_files_that_are_gone_are_written_again(store: SQLiteStore, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    filled(store)
    archive.write_due(store, NOW)
    lost = archive.folder.requests(manifests(archive)[0])[0]
    lost.unlink()
    assert differences(archive, store) == [f"{lost.relative_to(archive.folder.path)} is gone"]
    assert archive.usage(store, "", "", EVER) == store.usage("", "", EVER)
    assert archive.write_due(store, NOW) == 1
    assert differences(archive, store) == []


class Death(BaseException):
    """The end of a process."""


class Dying(Disk):
    """A disk whose process dies before the n-th step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Death

    def sync(self, path: Path) -> None:
        """Sync, or die."""
        self._step()
        super().sync(path)

    def rename(self, part: Path, path: Path) -> None:
        """Rename, or die."""
        self._step()
        super().rename(part, path)

    def remove(self, path: Path) -> None:
        """Remove, or die."""
        self._step()
        super().remove(path)


def test_dying_at_every_step_leaves_a_whole_archive(store: SQLiteStore, tmp_path: Path) -> None:
    """One day is there, one is to be written again, one is new. After a step is before the next one."""
    filled(store)
    begun = tmp_path / "begun"
    Archive(begun).write_due(store, NOW, most=2)
    store.add_usage(requests(range(101, 104), DAY0 + DAY + 5 * HOUR), [], NOW)
    straight = Archive(Path(shutil.copytree(begun, tmp_path / "straight")))
    straight.write_due(store, NOW)
    expected = {name: each for name, each in files(straight).items() if name.endswith(".parquet")}
    usage = store.usage("", "", EVER)

    steps, died, archive = 0, True, straight
    while died:
        archive = Archive(Path(shutil.copytree(begun, tmp_path / f"{steps}")))
        try:
            Archive(archive.folder.path, Dying(steps)).write_due(store, NOW)
            died = False
        except Death:
            assert archive.usage(store, "", "", EVER) == usage, "whatever is there is whole"
            archive.write_due(store, NOW)
        assert {name: each for name, each in files(archive).items() if name.endswith(".parquet")} == expected
        assert not [name for name in files(archive) if name.endswith(PART)]
        assert list(unchained(archive.folder.kept())) == []
        assert all(archive.folder.whole(each) for each in manifests(archive))
        steps += 1
    assert differences(archive, store) == []
    assert steps > 20, "there were many steps to die at"


def test_what_was_changed_is_named(store: SQLiteStore, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    filled(store)
    archive.write_due(store, NOW)
    path = archive.folder.requests(manifests(archive)[1])[0]
    good = path.read_bytes()
    path.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    assert differences(archive, store) == [
        f"{path.relative_to(archive.folder.path)} was changed: its digest is not that of the manifest"
    ]
    path.write_bytes(good)
    assert differences(archive, store) == []
    first = archive.folder.path / "manifests" / "00000001.json"
    text = first.read_text()
    first.unlink()
    assert differences(archive, store) == [
        "manifest 2 (day 2025-06-16T00:00:00Z) does not follow the one before: one was changed or removed"
    ]
    first.write_text("{}")
    with pytest.raises(ArchiveDamaged, match="move it away"):
        archive.write_due(store, NOW)
    first.write_text(text.replace(Manifest.model_validate_json(text).format, "zerotide.dev/archive/9"))
    with pytest.raises(ArchiveDamaged, match="run the newer exporter"):
        archive.folder.kept()


def test_an_archive_that_was_forged_as_a_whole_differs_from_the_ledger(store: SQLiteStore, tmp_path: Path) -> None:
    """Every digest fits, but neither do charges fit the seals, nor requests the sums."""
    archive = Archive(tmp_path / "archive")
    filled(store)
    archive.write_due(store, NOW)
    forged, previous = list[Kept](), "0" * 64
    for number, kept in enumerate(archive.folder.kept()):
        manifest = kept.manifest
        if number == 1:
            changed = {
                REQUESTS: [(*row[:11], row[11] + 1, *row[12:]) for row in archive.rows(manifest, REQUESTS)],
                CHARGES: [(*row[:-1], "1/7") for row in archive.rows(manifest, CHARGES)],
            }
            made = []
            for file in manifest.files:
                path = archive.folder.path / file.path
                if file.table in changed:
                    parquet.write(archive.folder.path, file.table, changed[file.table], path)
                made.append(file.model_copy(update={"bytes": path.stat().st_size, "sha256": digest(path)}))
            manifest = manifest.model_copy(update={"files": tuple(made)})
        manifest = manifest.model_copy(update={"previous": previous})
        forged.append(archive.folder.keep(manifest))
        previous = forged[-1].digest
    found = differences(archive, store)
    assert len([each for each in found if "other charges than the ledger's seal covers" in each]) == 96
    assert any("the sum is" in each for each in found)
    assert not any("digest" in each for each in found)


def test_an_archive_of_another_ledger_is_told_apart(store: SQLiteStore, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    filled(store)
    archive.write_due(store, NOW)
    other = SQLiteStore(tmp_path / "other.sqlite")
    other.add_endpoint(ENDPOINT)
    other.add_facts(lived("u9", scheduled=0, started=5, ready=20), T0)
    seal(other, NOW, PRICES)
    assert any("has another hash" in each for each in differences(archive, other))
    other.close()


def test_one_process_writes_at_a_time(store: SQLiteStore, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    filled(store)
    archive.folder.make()
    with locked(archive.folder.path) as mine:
        assert mine
        assert archive.write_due(store, NOW) == 0
    assert archive.write_due(store, NOW) == 3


def test_a_folder_that_cannot_be_used_is_named(store: SQLiteStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    filled(store)
    with pytest.raises(ArchiveUnavailable, match=r"file/archive.*check the volume"):
        Archive(tmp_path / "file" / "archive").write_due(store, NOW)


def test_texts_are_kept_to_the_letter(tmp_path: Path) -> None:
    rows = [(number, text, text, text) for number, text in enumerate((*ODD, "\x00", "x" * 100_000))]
    seals = [(number, 0, 0, 0, *texts) for number, *texts in rows]
    part = tmp_path / "x.part"
    assert parquet.write(tmp_path, "seals", seals, part) == len(rows)
    assert parquet.read(tmp_path, part) == seals
    assert list(tmp_path.iterdir()) == [part]


def test_duckdb_reaches_nothing_but_the_archive(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "other.parquet").write_text("")
    with pytest.raises(ArchiveDamaged, match="disabled by configuration"):
        parquet.read(tmp_path / "archive", tmp_path / "other.parquet")


def test_an_exporter_without_an_archive_does_not_load_duckdb() -> None:
    code = "import json, sys, zerotide.exporter.service; print(json.dumps('duckdb' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) is False


def test_a_manifest_reads_as_it_is_written() -> None:
    manifest = Manifest(
        format="f",
        number=1,
        previous="0",
        day_us=DAY0,
        revision=1,
        written_us=NOW,
        sealed_until_us=NOW,
        seal_number=9,
        seal_hash="h",
        settled=2,
        delivered=1,
        files=(),
    )
    assert Manifest.model_validate_json(text_of(manifest)) == manifest
