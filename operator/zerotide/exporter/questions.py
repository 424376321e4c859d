"""Answer questions to the ledger: read what bears on them, fold it, and let the billing core compose the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from zerotide.billing.audit import verification
from zerotide.billing.bills import explanation
from zerotide.billing.focus import focus_report
from zerotide.billing.invoices import SealedPart, corrections_of, invoice_report, needed, to_fold
from zerotide.billing.ledger import Ledger, folded
from zerotide.billing.periods import zone
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period
from zerotide.billing.reports import Report
from zerotide.billing.rollups import rollup_check, usage_report
from zerotide.billing.sealing import Seal
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.archive.checks import archive_report
from zerotide.exporter.sealchecks import seal_checks
from zerotide.exporter.sealer import for_charges
from zerotide.exporter.store import Store
from zerotide.exporter.timequestions import times, times_check

Compose = Callable[[list[Ledger], PriceIndex, Period, int], Report]


class Question(NamedTuple):
    """What a report is about (empty names: any), and when it was asked for."""

    namespace: str
    endpoint: str
    period: Period
    now_us: int


Answer = Callable[[Store, PriceIndex, Question], Report]


def answer(store: Store, index: PriceIndex, question: Question, *, compose: Compose) -> Report:
    """Return a report that is composed of folded ledgers; raise StoreError."""
    return compose(_folded(store, question), index, question.period, question.now_us)


def answer_usage(store: Store, index: PriceIndex, question: Question) -> Report:
    """Return usage from sums; raise StoreError."""
    found = store.usage(question.namespace, question.endpoint, question.period)
    return usage_report(found, question.period, question.now_us)


def answer_raw(store: Store, index: PriceIndex, question: Question, *, archive: Archive | None) -> Report:
    """Return usage from the requests themselves, archived or not; raise StoreError and ArchiveError."""
    where = (question.namespace, question.endpoint, question.period)
    found = archive.usage(store, *where) if archive else store.usage_raw(*where)
    return usage_report(found, question.period, question.now_us)


def answer_archive(
    store: Store, index: PriceIndex, question: Question, *, archive: Archive | None, check: bool
) -> Report:
    """Return what is archived; raise StoreError and ArchiveError."""
    return archive_report(archive, store, question.period, question.now_us, check=check)


def answer_time(store: Store, index: PriceIndex, question: Question, *, by: str, time_zone: str) -> Report:
    """Return time by phase; raise StoreError and UnknownZone."""
    where = (question.namespace, question.endpoint)
    return times(store, index, where, question.period, question.now_us, by, zone(time_zone))


def answer_verify(store: Store, index: PriceIndex, question: Question) -> Report:
    """Return the laws as checked on folded ledgers, on sums and on what is sealed; raise StoreError."""
    report = verification(_folded(store, question), index, question.period, question.now_us)
    where = (question.namespace, question.endpoint, question.period)
    check = rollup_check(store.usage(*where), store.usage_raw(*where))
    sealed = seal_checks(store, index, *where, question.now_us)
    timed = times_check(store, where[:2], question.period)
    return report.model_copy(update={"checks": (*report.checks, check, *sealed, timed)})


def answer_explain(store: Store, index: PriceIndex, question: Question) -> Report:
    """Return what charges are made of, and their corrections; raise StoreError."""
    ledgers, part = _with_sealed(store, question)
    report = explanation(ledgers, index, question.period, question.now_us)
    return report.model_copy(update={"corrections": corrections_of(part.posted)})


def answer_invoice(store: Store, index: PriceIndex, question: Question, *, time_zone: str) -> Report:
    """Return what is to be paid; raise StoreError and UnknownZone."""
    where = zone(time_zone)
    ledgers, part = _to_invoice(store, question, needed(index, question.period, where))
    return invoice_report(ledgers, index, question.period, part, question.now_us, where)


def answer_focus(store: Store, index: PriceIndex, question: Question, *, version: str) -> Report:
    """Return what is to be paid, as FOCUS; raise StoreError and UnknownFocusVersion."""
    ledgers, part = _to_invoice(store, question, needed(index, question.period))
    return focus_report(ledgers, index, question.period, question.now_us, version, part)


def _folded(store: Store, question: Question) -> list[Ledger]:
    found = store.records(question.namespace, question.endpoint, question.period)
    return [folded(records, question.now_us) for records in found]


def _with_sealed(store: Store, question: Question) -> tuple[list[Ledger], SealedPart]:
    """Read facts and seals of one moment: what is sealed in between would be missing, or there twice."""
    while True:
        head, part = _sealed(store, question)
        ledgers = _folded(store, question)
        if store.seals.head() == head:
            return ledgers, part


def _to_invoice(store: Store, question: Question, read: Period) -> tuple[list[Ledger], SealedPart]:
    """Read what an invoice needs, and no facts of what is sealed: its charges say it all."""
    where = (question.namespace, question.endpoint)
    while True:
        head, part = _sealed(store, question._replace(period=read))
        part = part._replace(owners=store.owners(*where), unbilled=tuple(store.unbilled(*where, question.period)))
        found = for_charges(store, *where, to_fold(part, question.period, read), question.now_us)
        if store.seals.head() == head:
            return [folded(records, question.now_us) for records in found], part


def _sealed(store: Store, question: Question) -> tuple[Seal | None, SealedPart]:
    head = store.seals.head()
    posted = store.seals.posted(question.namespace, question.endpoint, question.period)
    return head, SealedPart(head.end_us if head else 0, tuple(posted))
