"""What can go wrong in the exporter.

ExporterError
├── SettingsError         flags or environment that make no sense
├── PriceFileError        a price file that cannot be read or is no price book
├── PushRefused           an OpenTelemetry collector that did not take metrics
├── ArchiveError
│   ├── ArchiveUnavailable    the archive's folder cannot be written or read now (disk full): try again
│   └── ArchiveDamaged        what lies in the folder is no archive, or was changed
└── StoreError
    ├── StoreUnavailable      the ledger cannot be written now (disk full, locked, closed): try again
    ├── StoreDamaged          the file is not a ledger, or is broken
    ├── StoreTooNew           the ledger was written by a newer version
    └── SealRefused           another exporter seals since, so this one may not
"""

from __future__ import annotations


class ExporterError(Exception):
    """Anything that the exporter itself reports."""


class SettingsError(ExporterError):
    """Flags or environment that make no sense."""


class PriceFileError(ExporterError):
    """A price file that cannot be read or is no price book."""


class PushRefused(ExporterError):
    """An OpenTelemetry collector did not take metrics."""


class ArchiveError(ExporterError):
    """The archive failed."""


class ArchiveUnavailable(ArchiveError):
    """The archive cannot be written or read now; trying again later can help."""


class ArchiveDamaged(ArchiveError):
    """What lies in the archive's folder is no archive, or was changed: move it away, and it is written anew."""


class StoreError(ExporterError):
    """The ledger's storage failed."""


class StoreUnavailable(StoreError):
    """The ledger cannot be written or read now; trying again later can help."""


class StoreDamaged(StoreError):
    """The file is not a ledger, or is broken: restore it from a backup."""


class StoreTooNew(StoreError):
    """The ledger was written by a newer version of Zerotide."""


class SealRefused(StoreError):
    """Another exporter has claimed the sealing of this ledger since: what was to be sealed is not."""
