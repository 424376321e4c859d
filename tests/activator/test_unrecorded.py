"""Usage that cannot be recorded: what endpoints do then, as they say themselves, on real sockets and a full disk."""

from __future__ import annotations

import asyncio
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.activator.records import Exporter, everything, intent, settlement
from tests.activator.replica import Replica
from tests.activator.stack import Stack, until
from zerotide.activator.usage.backlog import Bounds, Cause, Waiting
from zerotide.activator.usage.journal import Journal, read
from zerotide.activator.usage.shipper import Shipper
from zerotide.api.usage import Unrecorded

DENY: dict[str, Any] = {"billing": {"onLedgerFailure": "Deny"}}
SMALL = 64 * 1024
"""Bytes of the disk that is to fill up."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Have a file system of a few kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def journal_of(stack: Stack) -> Journal:
    """Return the log of an activator."""
    journal = stack.service.journal
    assert journal is not None
    return journal


def figure(stack: Stack, name: str) -> float:
    """Return a figure of the metrics page."""
    lines = stack.service.metrics.render()[0].decode().splitlines()
    (line,) = [line for line in lines if line.startswith(name)]
    return float(line.rpartition(" ")[2])


def fill(folder: Path) -> Path:
    """Take all the space that a disk has left."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as opened:
        for size in (4096, 1):
            try:
                while opened.write(bytes(size)):
                    pass
            except OSError:
                continue
    return file


# Too much waits


async def test_who_denies_refuses_before_any_wake(stack: Stack) -> None:
    journal = journal_of(stack)
    journal.bounds = Bounds(records=2)
    journal.append(intent(1))
    stack.key()
    stack.endpoint(**DENY, hold={"whileCold": "Reject"})
    assert (await stack.post(Prefer="wait=0")).code == "endpoint_cold"
    applied = len(stack.api.applied)
    journal.append(intent(2))
    refused = await stack.post(Prefer="wait=0")
    assert (refused.status, refused.code) == (503, "ledger_unavailable")
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("10", "true")
    assert refused.json["error"]["message"] == (
        "endpoint demo/m serves nothing unbilled, and usage cannot be brought to the ledger now: too much of it waits"
    )
    assert len(stack.api.applied) == applied
    journal.acknowledged(journal.waiting().bytes, 2)
    assert (await stack.post(Prefer="wait=0")).code == "endpoint_cold"


async def test_what_is_admitted_is_recorded_beyond_the_bound(stack: Stack, replica: Replica) -> None:
    """Requests in flight, and those held, are billed like all others; only new ones are refused."""
    journal = journal_of(stack)
    journal.bounds = Bounds(records=2)
    endpoint = await stack.awake(replica, **DENY, scaling={"concurrency": {"limit": 1, "target": 1}})
    replica.hold = asyncio.Event()
    flying = asyncio.create_task(stack.post())
    await until(lambda: replica.in_flight)
    held = asyncio.create_task(stack.post())
    await until(lambda: endpoint.gate.held)
    journal.append(intent(1))
    assert journal.closed is Cause.RECORDS
    assert (await stack.post(Prefer="wait=0")).code == "ledger_unavailable"
    replica.hold.set()
    assert [(await each).status for each in (flying, held)] == [200, 200]
    intents, settlements = stack.records()
    ours = {each.request_id for each in intents if each.request_id != "r1"}
    assert len(ours) == 2 and {each.request_id for each in settlements} == ours
    assert figure(stack, "zerotide_requests_unrecorded_total") == 0


async def test_who_serves_says_what_is_not_billed(
    stack: Stack, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """Every attempt that has no record is counted, the log says when that begins and ends, and records are whole."""
    journal = journal_of(stack)
    journal.bounds = Bounds(records=3)
    await stack.awake(replica)
    assert (await stack.post()).status == 200
    journal.append(intent(1))
    assert journal.closed is Cause.RECORDS
    for _ in range(3):
        assert (await stack.post()).status == 200
    assert figure(stack, "zerotide_requests_unrecorded_total") == 3
    assert figure(stack, 'zerotide_usage_closed{cause="records"}') == figure(stack, "zerotide_usage_backlog_ratio") == 1
    assert figure(stack, "zerotide_usage_backlog_records") == 3
    journal.acknowledged(journal.waiting().bytes, 3)
    assert (await stack.post()).status == 200
    intents, settlements = stack.records()
    assert (len(intents), len(settlements)) == (3, 2)
    assert figure(stack, "zerotide_requests_unrecorded_total") == 3
    told = [record.message for record in caplog.records if "usage is" in record.message]
    assert told == ["usage is not recorded: requests are served unbilled, or refused", "usage is recorded again"]


def losses(stack: Stack) -> list[tuple[str, str, str, int]]:
    """Return what the log says that it lacks."""
    segments = journal_of(stack).segments()
    told = [each for path in segments for each in read(path) if isinstance(each, Unrecorded)]
    assert len({each.id for each in told}) == len(told) and all(each.from_us <= each.to_us for each in told)
    return [(each.namespace, each.endpoint, each.consumer, each.requests) for each in told]


async def test_the_log_says_how_many_it_lacks(stack: Stack, replica: Replica) -> None:
    """Beyond its bound now and then, and at once when it is open again: a bill must not seem complete."""
    journal = journal_of(stack)
    journal.bounds = Bounds(records=3)
    await stack.awake(replica)
    for _ in range(5):
        assert (await stack.post()).status == 200
    assert journal.closed is Cause.RECORDS and losses(stack) == []
    served = [("demo", "m", stack.records()[0][0].consumer)]
    journal.look()
    assert losses(stack) == [(*who, 3) for who in served]
    assert (await stack.post()).status == 200
    journal.look()
    assert losses(stack) == [(*who, 3) for who in served], "soon after another it waits"
    journal.acknowledged(journal.waiting().bytes, 5)
    journal.look()
    assert losses(stack) == [(*who, number) for number in (3, 1) for who in served]
    journal.look()
    assert len(losses(stack)) == 2


async def test_age_refuses_and_loses_nothing(stack: Stack, replica: Replica) -> None:
    """What has waited for long ends the credit of who denies; who serves is billed for all of it."""
    journal = journal_of(stack)
    journal.bounds = Bounds(age_us=50_000)
    await stack.awake(replica, **DENY)
    assert (await stack.post()).status == 200
    await until(lambda: journal.waiting().age_us > 50_000)
    journal.look()
    refused = await stack.post()
    assert refused.code == "ledger_unavailable"
    assert refused.json["error"]["message"].endswith("it has waited for too long")
    stack.endpoint(model={"uri": "image:///m"})
    assert (await stack.post()).status == 200
    assert len(stack.records()[0]) == 2
    assert figure(stack, "zerotide_requests_unrecorded_total") == 0


async def test_without_any_log_who_denies_serves_nothing(replica: Replica) -> None:
    async with Stack() as stack:
        await stack.awake(replica, **DENY)
        refused = await stack.post()
        assert refused.code == "ledger_unavailable"
        assert refused.json["error"]["message"].endswith("this gateway records none")
        stack.endpoint(model={"uri": "image:///m"})
        assert (await stack.post()).status == 200


# A disk that takes nothing


@pytest.mark.parametrize("express", [True, False], ids=["warm", "first"])
async def test_a_full_disk_refuses_who_denies_before_a_byte_is_sent(
    disk: Path, replica: Replica, express: bool
) -> None:
    """Also the request whose own record is the first that does not fit."""
    async with Stack(disk / "usage") as stack:
        await stack.awake(replica, **DENY)
        if express:
            assert (await stack.post()).status == 200
        fill(disk)
        journal = journal_of(stack)
        while not journal.failed:
            journal.append(intent(9))
        journal.failed, journal.closed = False, None
        seen = len(replica.received)
        refused = await stack.post()
        assert refused.code == "ledger_unavailable"
        assert refused.json["error"]["message"].endswith("it cannot be written down")
        assert len(replica.received) == seen
        assert figure(stack, 'zerotide_usage_closed{cause="unwritable"}') == 1
        assert (await stack.post()).code == "ledger_unavailable"
        demand = stack.tracker.demand("demo/m")
        assert demand is not None and demand.in_flight == 0


async def test_a_full_disk_loses_what_is_served_and_settles_what_was_begun(disk: Path, replica: Replica) -> None:
    """The settlement that does not fit waits in memory, and no record is cut in half."""
    async with Stack(disk / "usage") as stack:
        await stack.awake(replica)
        replica.hold = asyncio.Event()
        begun = asyncio.create_task(stack.post())
        await until(lambda: replica.in_flight)
        filler, journal = fill(disk), journal_of(stack)
        while not journal.failed:
            journal.append(intent(9))
        replica.hold.set()
        assert (await begun).status == 200
        assert (await stack.post()).status == 200
        assert figure(stack, "zerotide_requests_unrecorded_total") == 1
        assert figure(stack, 'zerotide_usage_closed{cause="unwritable"}') == 1
        assert stack.records()[1] == []
        journal.look()
        assert losses(stack) == []
        filler.unlink()
        journal.look()
        assert journal.closed is None
        assert [number for *_, number in losses(stack)] == [1]
        assert (await stack.post()).status == 200
        intents, settlements = stack.records()
        ours = {each.request_id for each in intents if each.request_id != "r9"}
        assert len(ours) == 2 and {each.request_id for each in settlements} == ours
        assert figure(stack, "zerotide_requests_unrecorded_total") == 1


async def test_what_the_exporter_took_makes_room_on_a_full_disk(
    disk: Path, exporter: Exporter, session: aiohttp.ClientSession
) -> None:
    """The one segment that fills the disk goes once it is shipped; what was written is shipped once, line by line."""
    journal = Journal(disk / "usage")
    sent = 0
    while not journal.failed:
        journal.append(intent(sent := sent + 1))
    shipper = Shipper(journal, session, exporter.url, None)
    journal.look()
    await journal.sync()
    await shipper.ship()
    journal.look()
    assert journal.closed is None
    journal.append(settlement(1))
    await shipper.ship()
    assert exporter.taken == [*(intent(number) for number in range(1, sent)), settlement(1)]
    assert journal.waiting() == Waiting(0, 0, 0)
    await journal.close()


async def test_a_file_that_may_grow_no_more_is_left_for_the_next(tmp_path: Path) -> None:
    """The kernel's own limit cuts a write in half; what came of it is taken out, and the log goes on elsewhere."""
    journal = Journal(tmp_path / "usage")
    journal.append(intent(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.active_size + 50, hard))
    try:
        journal.append(intent(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.closed is Cause.UNWRITABLE
    assert everything(tmp_path / "usage") == [intent(1)]
    journal.look()
    journal.append(intent(3))
    assert everything(tmp_path / "usage") == [intent(1), intent(3)]
    assert len(journal.segments()) == 2
    await journal.close()


# What is left behind


async def test_the_last_record_says_what_is_missing(tmp_path: Path) -> None:
    """Of a log that is closed while it is full, and of one that is found by the next process."""
    journal = Journal(tmp_path / "usage", bounds=Bounds(records=1), now_us=lambda: 1000)
    journal.append(intent(1))
    for number in range(3):
        journal.lost(("demo", "m", "demo/a"), 900 + number)
        journal.look()
    await journal.close()
    told = [each for each in everything(tmp_path / "usage") if isinstance(each, Unrecorded)]
    assert [(each.requests, each.from_us, each.to_us) for each in told] == [(3, 900, 902)]
    again = Journal(tmp_path / "usage", now_us=lambda: 1000)
    assert again.waiting().records == 3, "the intent, its settlement as abandoned, and what is missing"
    assert [each for each in everything(tmp_path / "usage") if isinstance(each, Unrecorded)] == told
    await again.close()


async def test_what_an_earlier_process_left_counts(tmp_path: Path) -> None:
    dead = Journal(tmp_path / "usage", segment_bytes=600, now_us=lambda: 1000)
    for number in range(10):
        dead.append(intent(number))
        dead.append(settlement(number))
    before = dead.waiting()
    await dead.close()
    journal = Journal(tmp_path / "usage", bounds=Bounds(records=20), now_us=lambda: 1000)
    assert journal.waiting()[:2] == before[:2]
    assert journal.waiting().age_us == 1000 - intent(0).forwarded_us
    assert journal.closed is Cause.RECORDS
    await journal.close()


async def test_refused_records_wait_no_longer_and_are_bounded(
    tmp_path: Path, exporter: Exporter, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "usage")
    shipper = Shipper(journal, session, exporter.url, None)
    exporter.status = 400
    for number in range(10):
        journal.append(intent(number))
        await shipper.ship()
    assert journal.waiting() == Waiting(0, 0, 0)
    kept = sorted((tmp_path / "usage").glob("*.refused"))
    assert [list(read(path)) for path in kept] == [[intent(number)] for number in range(2, 10)]
    assert sum("given up" in record.message for record in caplog.records) == 2
    await journal.close()


async def test_settlements_need_their_intents(tmp_path: Path) -> None:
    """Of an attempt that the log did not take, nothing is in it."""
    journal = Journal(tmp_path / "usage", bounds=Bounds(records=1))
    first = journal.begin(intent(1).encode())
    journal.flush()
    lost = journal.begin(intent(2).encode())
    assert (first.written, lost.written) == (True, False)
    assert not journal.settle(settlement(2).encode(), lost)
    assert journal.settle(settlement(1).encode(), first)
    surely = journal.begin(intent(3).encode(), surely=True)
    journal.flush()
    assert surely.written
    assert everything(tmp_path / "usage") == [intent(1), settlement(1), intent(3)]
    await journal.close()
