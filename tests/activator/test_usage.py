"""The usage log, its way to the exporter, and the taps that fill it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.activator.records import Exporter, everything, intent, settlement
from tests.activator.stack import until
from zerotide.activator.usage.backlog import Bounds
from zerotide.activator.usage.figures import UsageFigures
from zerotide.activator.usage.journal import Journal, read
from zerotide.activator.usage.records import Records
from zerotide.activator.usage.shipper import Shipper
from zerotide.activator.usage.tap import Events, Through, Whole, kind_of, split_events, tap_for, tokens_of
from zerotide.api.protocol import Protocol
from zerotide.api.usage import MOST_TOKENS, Outcome, Settlement, Tokens
from zerotide.kube import TokenFile


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """Have a folder for a log."""
    yield tmp_path / "usage"


async def test_records_are_in_the_file_at_once(folder: Path) -> None:
    """`append` returns after the write; the disk follows soon after."""
    journal = Journal(folder)
    journal.append(intent(1))
    journal.append(settlement(1))
    assert everything(folder) == [intent(1), settlement(1)]
    await journal.close()


async def test_writes_are_synced_in_groups(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 50 ms, and never once per record."""
    journal = Journal(folder)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    task = asyncio.create_task(journal.run())
    for number in range(1000):
        journal.append(intent(number))
        if number % 100 == 0:
            await asyncio.sleep(0.001)
    await until(lambda: not journal._dirty.is_set() and synced)
    assert len(synced) < 100
    task.cancel()
    await journal.close()


async def test_a_process_that_died_is_settled(folder: Path) -> None:
    """Intents without an end get one, so that nobody waits for it; a line that was cut off is no record."""
    dead = Journal(folder)
    for record in (intent(1), intent(2), settlement(1), intent(3, attempt=2)):
        dead.append(record)
    os.write(dead._file, b'{"kind":"intent","half')
    await dead.close()
    journal = Journal(folder)
    added = list(read(journal.active))
    assert [(record.key[:2], record.outcome) for record in added if isinstance(record, Settlement)] == [
        (("r2", 1), Outcome.ABANDONED),
        (("r3", 2), Outcome.ABANDONED),
    ]
    assert len(everything(folder)) == 6
    await journal.close()
    again = Journal(folder)
    assert again.active_size == 0
    await again.close()


async def test_a_disk_that_is_full_does_not_stop_the_traffic(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once, and again only after it had worked."""
    journal = Journal(folder)
    write = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    journal.append(intent(1))
    journal.append(intent(2))
    assert [record.message for record in caplog.records] == ["usage records are being lost"]
    monkeypatch.setattr(os, "write", write)
    journal.append(intent(3))
    assert everything(folder) == [intent(3)]
    await journal.close()


async def test_everything_is_shipped_once(
    folder: Path, exporter: Exporter, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """In order, whole lines, over many segments, what an earlier process left behind first."""
    (tmp_path / "token").write_text("secret\n")
    left = Journal(folder, segment_bytes=2000)
    for number in range(20):
        left.append(intent(number))
        left.append(settlement(number))
    await left.close()
    journal = Journal(folder, segment_bytes=2000)
    shipper = Shipper(journal, session, exporter.url, TokenFile(tmp_path / "token"))
    journal.append(intent(100))
    await shipper.ship()
    journal.append(settlement(100))
    await shipper.ship()
    numbers = [*range(20), 100]
    assert exporter.taken == [record for number in numbers for record in (intent(number), settlement(number))]
    assert set(exporter.tokens) == {"Bearer secret"}
    assert journal.segments() == [journal.active]
    await journal.close()


async def test_an_exporter_that_is_away(
    folder: Path, exporter: Exporter, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records wait in the log; nothing is lost or out of order once it is back."""
    monkeypatch.setattr("zerotide.activator.usage.shipper.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("zerotide.activator.usage.shipper.GATHER", 0.01)
    journal = Journal(folder, segment_bytes=800)
    exporter.status = 503
    task = asyncio.create_task(Shipper(journal, session, exporter.url, None).run())
    for number in range(10):
        journal.append(intent(number))
    await until(lambda: exporter.batches >= 2)
    assert len(journal.segments()) > 2
    exporter.status = 204
    await until(lambda: len(exporter.taken) == 10)
    assert exporter.taken == [intent(number) for number in range(10)]
    task.cancel()
    await journal.close()


def told(journal: Journal) -> float:
    """Return how many refused segments there are, as the figures have it."""
    (family,) = [each for each in UsageFigures(journal).collect() if each.name == "zerotide_usage_refused_segments"]
    return float(family.samples[0].value)


async def test_records_that_are_refused_are_set_aside(
    folder: Path, exporter: Exporter, session: aiohttp.ClientSession
) -> None:
    """One that the exporter will never take does not stop those after it."""
    journal = Journal(folder)
    shipper = Shipper(journal, session, exporter.url, None)
    exporter.status = 400
    journal.append(intent(1))
    await shipper.ship()
    exporter.status = 204
    journal.append(intent(2))
    await shipper.ship()
    assert exporter.taken == [intent(2)]
    assert len(list(folder.glob("*.refused"))) == 1 == told(journal)
    await journal.close()
    assert told(Journal(folder)) == 1, "as long as it is there, whichever process looks"


@pytest.mark.parametrize("status", [202, 301, 302, 303])
async def test_only_an_exporter_s_word_is_taken_for_it(
    folder: Path, exporter: Exporter, session: aiohttp.ClientSession, status: int
) -> None:
    """A proxy in between that redirects to a page has not recorded anything, though the page is there."""
    journal = Journal(folder)
    shipper = Shipper(journal, session, exporter.url, None)
    exporter.status = status
    journal.append(intent(1))
    with pytest.raises(aiohttp.ClientError):
        await shipper.ship()
    exporter.status = 204
    await shipper.ship()
    assert exporter.taken == [intent(1)]
    await journal.close()


HUGE = 10**30
"""More than a ledger's 64 bits: passed on, it would be refused for ever, and with it all that is shipped behind it."""
USAGE = b'"usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}'


EMBEDDED = (
    b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[%s]}],' % b",".join([b"0.03125"] * 4096)
    + b'"model":"m","usage":{"prompt_tokens":9,"total_tokens":9}}'
)


@pytest.mark.parametrize(
    ("dialect", "body", "tokens"),
    [
        (Protocol.OPENAI, b'{"choices":[],' + USAGE + b"}", Tokens(input=5, cached=2, output=7)),
        (Protocol.OPENAI, b'{"x":"' + b"x" * 100_000 + b'",' + USAGE + b"}", Tokens(input=5, cached=2, output=7)),
        (
            Protocol.OPENAI,
            b'{"a":"\\"usage\\": {\\"prompt_tokens\\": 9}",' + USAGE + b"}",
            Tokens(input=5, cached=2, output=7),
        ),
        (Protocol.OPENAI, b'{"usage":{"prompt_tokens":3,"total_tokens":3}}', Tokens(input=3, output=0)),
        (Protocol.OPENAI, b'{"usage":{"input_tokens":3,"output_tokens":4}}', Tokens(input=3, output=4)),
        (Protocol.OPENAI, b'{"usage":{"prompt_tokens":"3"}}', None),
        (Protocol.OPENAI, b'{"usage":{"prompt_tokens":3,"completion_tokens":%d}}' % HUGE, Tokens(input=3, output=0)),
        (Protocol.OPENAI, b'{"usage":{"prompt_tokens":%d}}' % (MOST_TOKENS + 1), None),
        (Protocol.OPENAI, b'{"usage":{"prompt_tokens":%b}}' % (b"9" * 5000), None),
        (Protocol.OPENAI, b'{"usage":{"prompt_tokens":%d}}' % MOST_TOKENS, Tokens(input=MOST_TOKENS, output=0)),
        (Protocol.TGI, b'{"details":{"generated_tokens":%d}}' % HUGE, None),
        (Protocol.OPENAI, b'{"usage":{"prompt_', None),
        (Protocol.OPENAI, b'{"usage":null}', None),
        (Protocol.OPENAI, EMBEDDED, Tokens(input=9, output=0)),
        (Protocol.OPENAI, b"", None),
        (Protocol.TGI, b'[{"details":{"generated_tokens":7,"prefill":[1,2]}}]', Tokens(input=2, output=7)),
        (Protocol.TGI, b'{"generated_text":"x"}', None),
        (Protocol.TGI, b"nonsense", None),
    ],
)
def test_tokens_of_whole_answers(dialect: Protocol, body: bytes, tokens: Tokens | None) -> None:
    """They are read from what passes, however it is cut, and nothing is changed."""
    tap = Whole(dialect)
    parts = [tap.feed(body[at : at + 1000]) for at in range(0, len(body), 1000)]
    assert b"".join(parts) + tap.finish() == body
    assert tap.tokens() == tokens


@pytest.mark.parametrize(
    ("given", "made", "tokens"),
    [
        (b"3", b"4", Tokens(input=3, output=4)),
        (b"3", b"-4", None),
        (b"3", b"", None),
        (b"3", b"%d" % HUGE, None),
        (b"9" * 5000, b"4", None),
    ],
)
def test_tokens_of_heads(given: bytes, made: bytes, tokens: Tokens | None) -> None:
    """Numbers that no engine can have counted are none, however long."""
    assert tokens_of({b"x-prompt-tokens": given, b"x-generated-tokens": made}) == tokens


def test_a_stream_that_tells_more_than_can_be_is_not_believed() -> None:
    """Its other numbers are."""
    tap = Events(Protocol.OPENAI, strip=True)
    tap.feed(b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":%d}}\n\n' % HUGE)
    tap.finish()
    assert tap.tokens() == Tokens(input=5, output=0)


EVENT = b'data: {"choices":[{"delta":{"content":"\\"usage\\": {"}}],"usage":null}\n\n'
OURS = b'data: {"choices":[],' + USAGE + b"}\n\n"


def cuts(data: bytes, places: list[int]) -> Iterator[bytes]:
    """Yield data in pieces."""
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    yield from (data[low:high] for low, high in pairwise(bounds))


@given(st.lists(st.integers(0, 2000), max_size=30), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_streams_however_they_are_cut(places: list[int], strip: bool, line: bytes) -> None:
    """Events pass whole; the usage chunk is read, and taken out where only we asked for it."""
    data = b": beat\n\n" + EVENT + OURS + b"data: [DONE]\n\n"
    data = data.replace(b"\n", line)
    tap = Events(Protocol.OPENAI, strip=strip)
    passed = b"".join(tap.feed(part) for part in cuts(data, places))
    assert passed + tap.finish() == (data.replace(OURS.replace(b"\n", line), b"") if strip else data)
    assert tap.tokens() == Tokens(input=5, cached=2, output=7)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_streams_of_anything(data: bytes, places: list[int]) -> None:
    """What is no stream passes as it is."""
    tap = Events(Protocol.TGI, strip=False)
    assert b"".join(tap.feed(part) for part in cuts(data, places)) + tap.finish() == data
    assert b"".join(split_events(data)) == data


def test_a_stream_without_ends_is_not_kept_for_ever() -> None:
    """An event beyond a megabyte passes in pieces."""
    tap = Events(Protocol.OPENAI, strip=True)
    assert sum(len(tap.feed(bytes(100_000))) for _ in range(20)) >= 1_000_000


@pytest.mark.parametrize(
    ("content_type", "encoded", "kind"),
    [
        ("application/json", False, Whole),
        ("application/problem+json; charset=utf-8", False, Whole),
        ("text/event-stream; charset=utf-8", False, Events),
        ("text/event-stream", True, Through),
        ("audio/wav", False, Through),
        ("", False, Through),
    ],
)
def test_which_tap(content_type: str, encoded: bool, kind: type[Any]) -> None:
    """By media type; what is compressed passes unread."""
    assert type(tap_for(kind_of(content_type, encoded), Protocol.OPENAI, None, False)) is kind


def delta(**content: Any) -> bytes:
    """Return a chunk of OpenAI's."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": content}]}).encode() + b"\n\n"


ROLE, WORD = delta(role="assistant", content=""), delta(content="data: word")
BLOCK = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"x"}}\n\n'
ANTHROPIC = (
    b'event: message_start\ndata: {"message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
    b"event: content_block_start\ndata: {}\n\nevent: ping\ndata: {}\n\n"
)
RESPONSES = b"event: response.created\ndata: {}\n\nevent: response.output_item.added\ndata: {}\n\n"
TEXT_DELTA = b'event: response.output_text.delta\ndata: {"delta":"x"}\n\n'


@pytest.mark.parametrize(
    ("dialect", "begins", "text", "input_"),
    [
        (Protocol.OPENAI, b"", WORD, 0),
        (Protocol.OPENAI, ROLE, WORD, 0),
        (Protocol.OPENAI, b": beat\n\n" + ROLE, WORD, 0),
        (Protocol.OPENAI, b"", delta(reasoning_content="hm"), 0),
        (Protocol.OPENAI, ANTHROPIC, BLOCK, 9),
        (Protocol.OPENAI, RESPONSES, TEXT_DELTA, 0),
        (Protocol.TGI, b"", b'data:{"index":1,"token":{"id":1,"text":"x"}}\n\n', 0),
    ],
)
@given(places=st.lists(st.integers(0, 5000), max_size=20), count=st.integers(2, 20))
def test_a_stream_that_is_cut_tells_what_was_seen(
    dialect: Protocol, begins: bytes, text: bytes, input_: int, places: list[int], count: int
) -> None:
    """One for each event with text, marked as an estimate; the half event at its end does not count."""
    tap = Events(dialect, strip=True)
    for part in cuts(begins + text * count + text[:-1], places):
        tap.feed(part)
    assert tap.tokens() == Tokens(input=input_, output=count, estimated=True)


def test_what_the_engine_told_is_no_estimate() -> None:
    """A stream that is cut after its usage has it; one that is complete without usage has none."""
    tap = Events(Protocol.OPENAI, strip=True)
    tap.feed(ROLE + WORD * 3 + OURS)
    assert tap.tokens() == Tokens(input=5, cached=2, output=7)
    tap = Events(Protocol.OPENAI, strip=True)
    tap.feed(ROLE + WORD * 3 + b"data: [DONE]\n\n")
    tap.finish()
    assert tap.tokens() is None
    tap = Events(Protocol.OPENAI, strip=True)
    tap.feed(ROLE)
    assert tap.tokens() is None


def test_other_dialects_of_events() -> None:
    """Anthropic's and OpenAI's newer streams tell their tokens in several places."""
    tap = Events(Protocol.OPENAI, strip=False)
    tap.feed(b'event: message_start\ndata: {"message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n')
    tap.feed(b'event: message_delta\ndata: {"usage":{"output_tokens":4}}\n\n')
    assert tap.tokens() == Tokens(input=9, output=4)
    tap = Events(Protocol.OPENAI, strip=False)
    counts = b'"input_tokens":9,"cache_read_input_tokens":1000,"cache_creation_input_tokens":20'
    tap.feed(b'event: message_start\ndata: {"message":{"usage":{' + counts + b',"output_tokens":1}}}\n\n')
    tap.feed(b'event: message_delta\ndata: {"usage":{' + counts + b',"output_tokens":4}}\n\n')
    assert tap.tokens() == Tokens(input=1029, cached=1000, output=4), "a prompt is all three together"
    whole = Whole(Protocol.OPENAI)
    whole.feed(b'{"usage":{"prompt_tokens":9,"cache_read_input_tokens":3,"completion_tokens":1}}')
    assert whole.tokens() == Tokens(input=9, cached=3, output=1), "here it is part of the prompt"
    tap = Events(Protocol.OPENAI, strip=False)
    usage = b'{"input_tokens":9,"output_tokens":1,"input_tokens_details":{"cached_tokens":3}}'
    tap.feed(b'data: {"response":{"usage":' + usage + b"}}\n\n")
    assert tap.tokens() == Tokens(input=9, cached=3, output=1)


async def test_a_log_is_closed_whole_although_there_is_no_token_to_ship_it_with(tmp_path: Path) -> None:
    """Its records wait for the next process."""
    records = Records(tmp_path / "usage", "http://127.0.0.1:9", tmp_path / "token", Bounds(), lambda: 1)
    work = [asyncio.ensure_future(each) for each in records.work()]
    records.journal.append(intent(1))
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    await records.close()
    assert records.journal._file == -1
    (path,) = records.journal.segments()
    assert list(read(path)) == [intent(1)]
