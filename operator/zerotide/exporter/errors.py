"""What can go wrong in the exporter.

ExporterError
├── SettingsError         flags or environment that make no sense
├── PriceFileError        a price file that cannot be read or is no price book
├── Unmeasured            nobody can say how much is left of a budget that is never passed
├── PushRefused           an OpenTelemetry collector that did not take metrics
├── DeliveryFailed        a webhook that was not taken: it is sent again, as long as that makes sense
│   ├── SecretUnusable        what signs it is not there, may not be read, or is no key
│   ├── ReceiverForbidden     its URL leads where the cluster's policy allows nothing
│   ├── ReceiverUnreachable   no connection, or no answer in time
│   ├── ReceiverRefused       another answer than success
│   └── ReceiverGone          410: it is not sent again
├── ArchiveError
│   ├── ArchiveUnavailable    the archive's folder cannot be written or read now (disk full): try again
│   └── ArchiveDamaged        what lies in the folder is no archive, or was changed
└── StoreError
    ├── StoreUnavailable      the ledger cannot be written now (disk full, locked, closed): try again
    ├── StoreDamaged          the file is not a ledger, or is broken
    ├── StoreTooNew           the ledger was written by a newer version
    ├── RecordUnfit           a record that the ledger cannot hold, however often it is sent
    └── SealRefused           another exporter seals since, so this one may not
"""

from __future__ import annotations


class ExporterError(Exception):
    """Anything that the exporter itself reports."""


class SettingsError(ExporterError):
    """Flags or environment that make no sense."""


class PriceFileError(ExporterError):
    """A price file that cannot be read or is no price book."""


class Unmeasured(ExporterError):
    """What is used up of a budget of money is not known yet, or it is of another currency than the prices."""


class PushRefused(ExporterError):
    """An OpenTelemetry collector did not take metrics."""


class DeliveryFailed(ExporterError):
    """A webhook was not taken; `wait_s` tells for how many seconds its receiver asked to be left alone."""

    def __init__(self, message: str, *, wait_s: int = 0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class SecretUnusable(DeliveryFailed):
    """What a webhook is signed with is not there, may not be read, or is no key; nothing of it is repeated."""


class ReceiverForbidden(DeliveryFailed):
    """A webhook's URL leads to an address that the cluster's policy does not allow."""


class ReceiverUnreachable(DeliveryFailed):
    """There was no connection to a webhook's receiver, or no answer in time."""


class ReceiverRefused(DeliveryFailed):
    """A webhook's receiver answered something else than success."""


class ReceiverGone(DeliveryFailed):
    """A webhook's receiver wants no more of them."""


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


class RecordUnfit(StoreError):
    """A record has a text or a number that no column of the ledger can hold: nothing that was to be written is."""


class SealRefused(StoreError):
    """Another exporter has claimed the sealing of this ledger since: what was to be sealed is not."""
