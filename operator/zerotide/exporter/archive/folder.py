"""The archive's folder: its manifests, and the files that they name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from zerotide.api.scalars import format_time
from zerotide.billing.archives import (
    CHARGES,
    FORMAT,
    REQUESTS,
    SEALS,
    SEGMENTS,
    ArchivedFile,
    Kept,
    Manifest,
    current,
    text_of,
)
from zerotide.exporter.archive.disk import PART, Disk, digest
from zerotide.exporter.errors import ArchiveDamaged, ArchiveUnavailable

MANIFESTS = "manifests"


class Folder:
    """Manifests in `manifests/`, numbered from 1; files of a day in `<table>/day=<date>/<revision>.parquet`."""

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path, self._disk = path, disk or Disk()

    def make(self) -> None:
        """Make the folder where it is missing. Raises ArchiveUnavailable."""
        with self._guarded():
            self._disk.folder(self.path / MANIFESTS)

    def kept(self) -> list[Kept]:
        """Return the manifests in order. Raises ArchiveDamaged and ArchiveUnavailable."""
        found = []
        try:
            with self._guarded():
                for path in sorted((self.path / MANIFESTS).glob("*.json")):
                    text = path.read_text(encoding="utf-8")
                    found.append(Kept(text, Manifest.model_validate_json(text)))
        except (UnicodeDecodeError, ValidationError) as error:
            raise ArchiveDamaged(
                f"{self.path}: a manifest cannot be read: {error}. Restore the folder, or move it away: it is written "
                "anew from the ledger"
            ) from error
        if unknown := {each.manifest.format for each in found} - {FORMAT}:
            raise ArchiveDamaged(
                f"{self.path}: an archive of format {', '.join(unknown)}: run the newer exporter again"
            )
        return found

    def make_day(self, day_us: int) -> None:
        """Make the folders of a day where they are missing. Raises ArchiveUnavailable."""
        with self._guarded():
            for table in (REQUESTS, SEGMENTS, CHARGES, SEALS):
                self._disk.folder((self.path / self.name(table, day_us, 1)).parent)

    def name(self, table: str, day_us: int, revision: int) -> str:
        """Return the path of a file within the folder."""
        return f"{table}/day={format_time(day_us)[:10]}/{revision}.parquet"

    def part(self, name: str) -> Path:
        """Return where a file is written before it is whole."""
        return (self.path / name).with_suffix(PART)

    def publish(self, table: str, day_us: int, revision: int, rows: int) -> ArchivedFile:
        """Give a file that was written its name, once it is on the disk. Raises ArchiveUnavailable."""
        name = self.name(table, day_us, revision)
        with self._guarded():
            self._disk.publish(self.part(name), self.path / name)
            path = self.path / name
            return ArchivedFile(table=table, path=name, rows=rows, bytes=path.stat().st_size, sha256=digest(path))

    def keep(self, manifest: Manifest) -> Kept:
        """Write a manifest, after all that it names. Raises ArchiveUnavailable."""
        kept, name = Kept(text_of(manifest), manifest), f"{MANIFESTS}/{manifest.number:08}.json"
        with self._guarded():
            self.part(name).write_text(kept.text, encoding="utf-8")
            self._disk.publish(self.part(name), self.path / name)
        return kept

    def whole(self, manifest: Manifest) -> bool:
        """Tell whether the files of a manifest are there, as long as it says."""
        try:
            return all((self.path / each.path).stat().st_size == each.bytes for each in manifest.files)
        except OSError:
            return False

    def requests(self, manifest: Manifest) -> list[Path]:
        """Return the file of a day's requests, if it has any."""
        file = manifest.file(REQUESTS)
        return [self.path / file.path] if file else []

    def tidy(self, kept: list[Kept]) -> None:
        """Remove what no current manifest names: files of earlier revisions, and what was not finished."""
        named = {file.path for each in current(kept).values() for file in each.manifest.files}
        with self._guarded():
            for path in (*self.path.glob("*/day=*/*"), *self.path.glob(f"{MANIFESTS}/*{PART}")):
                if str(path.relative_to(self.path)) not in named:
                    self._disk.remove(path)

    def changed(self, manifest: Manifest) -> Iterator[str]:
        """Yield which files of a manifest are not what it says."""
        for each in manifest.files:
            path = self.path / each.path
            if not path.exists():
                yield f"{each.path} is gone"
            elif path.stat().st_size != each.bytes or digest(path) != each.sha256:
                yield f"{each.path} was changed: its digest is not that of the manifest"

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveUnavailable(f"{self.path}: {error}: check the volume's space and health") from error
