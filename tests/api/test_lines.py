"""Usage records and demand messages survive the wire, newer senders, and nonsense."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api import demand, usage
from zerotide.api.failures import InvalidMessage, InvalidRecord
from zerotide.api.lines import Line

US = st.integers(0, 2**62)
WORDS = st.text(max_size=20)
COUNTS = st.integers(0, usage.MOST_TOKENS)
TOKENS = st.builds(usage.Tokens, input=COUNTS, cached=COUNTS, output=COUNTS)
INTENTS = st.builds(
    usage.Intent,
    kind=st.just("intent"),
    request_id=st.text(min_size=1, max_size=64),
    attempt=st.integers(1, 9),
    namespace=WORDS,
    endpoint=WORDS,
    endpoint_uid=WORDS,
    consumer=WORDS,
    key_id=WORDS,
    pod_uid=WORDS,
    activator=WORDS,
    model=WORDS,
    stream=st.booleans(),
    cold=st.booleans(),
    wake_id=WORDS,
    accepted_us=US,
    forwarded_us=US,
    request_bytes=US,
    idempotency_key=WORDS,
)
SETTLEMENTS = st.builds(
    usage.Settlement,
    kind=st.just("settlement"),
    request_id=st.text(min_size=1, max_size=64),
    attempt=st.integers(1, 9),
    first_byte_us=st.none() | US,
    ended_us=US,
    response_bytes=US,
    tokens=st.none() | TOKENS,
    outcome=st.sampled_from(usage.Outcome),
    status=st.integers(0, 999),
)
UNRECORDED = st.builds(
    usage.Unrecorded,
    kind=st.just("unrecorded"),
    id=st.text(min_size=1, max_size=64),
    namespace=WORDS,
    endpoint=WORDS,
    consumer=WORDS,
    requests=st.integers(1, usage.MOST_TOKENS),
    from_us=US,
    to_us=US,
)
DEMANDS = st.builds(demand.Demand, endpoint=WORDS, uid=WORDS, held=US, in_flight=US, arrivals=US, last_activity_us=US)
STAMPS = st.builds(
    demand.Stamps, demand_us=US, address_us=st.none() | US, connect_us=st.none() | US, ready_us=US, first_byte_us=US
)
MESSAGES = st.one_of(
    st.builds(
        demand.Snapshot,
        type=st.just("snapshot"),
        activator=WORDS,
        started_at_us=US,
        at_us=US,
        demands=st.lists(DEMANDS, max_size=3).map(tuple),
    ),
    st.builds(demand.Delta, type=st.just("delta"), at_us=US, demand=DEMANDS),
    st.builds(demand.Report, type=st.just("report"), at_us=US),
    st.builds(
        demand.Wake,
        type=st.just("wake"),
        at_us=US,
        endpoint=WORDS,
        uid=WORDS,
        id=WORDS,
        stamps=STAMPS,
        runtime=st.none() | st.dictionaries(WORDS, st.floats(0, 1e6), max_size=3),
        weights=st.none()
        | st.builds(
            demand.Weights,
            revision=st.none() | st.text("0123456789abcdef", min_size=40, max_size=40),
            digest=st.none() | st.just(f"sha256:{'0' * 64}"),
            bytes=st.none() | st.integers(0, 2**53),
        ),
    ),
)


def with_more(line: bytes) -> bytes:
    """Return the line as a newer sender might write it."""
    return json.dumps({**json.loads(line), "newField": {"a": 1}}).encode()


@given(INTENTS | SETTLEMENTS)
def test_records_round_trip_on_one_line(record: usage.Intent | usage.Settlement) -> None:
    line = record.encode()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert usage.decode(line) == record
    assert usage.decode(with_more(line)) == record
    assert record.key == (record.request_id, record.attempt, record.kind)


@given(UNRECORDED)
def test_what_is_missing_round_trips_on_one_line(record: usage.Unrecorded) -> None:
    line = record.encode()
    assert line.count(b"\n") == 1
    assert usage.decode(line) == usage.decode(with_more(line)) == record


@given(MESSAGES)
def test_messages_round_trip_on_one_line(message: demand.Message) -> None:
    line = message.encode()
    assert line.count(b"\n") == 1
    assert demand.decode(line) == message
    assert demand.decode(with_more(line)) == message


@given(DEMANDS)
def test_demand_is_active_while_anything_is_held_or_in_flight(one: demand.Demand) -> None:
    assert one.active == bool(one.held or one.in_flight)


def test_the_names_on_the_wire() -> None:
    one = demand.Demand(endpoint="a/b", uid="u", held=1, in_flight=2, arrivals=3, last_activity_us=4)
    sent = json.loads(demand.Snapshot(activator="x", started_at_us=1, at_us=2, demands=(one,)).encode())
    assert sent == {
        "type": "snapshot",
        "activator": "x",
        "startedAtUs": 1,
        "atUs": 2,
        "demands": [{"endpoint": "a/b", "uid": "u", "held": 1, "inFlight": 2, "arrivals": 3, "lastActivityUs": 4}],
    }


def test_a_message_of_a_newer_kind_is_passed_over() -> None:
    assert demand.decode(b'{"type":"ticket","atUs":1}') is None


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"{}", b'{"type":"report","atUs":"1"}', b'{"type":"report","atUs":-1}']
)
def test_nonsense_is_no_message(line: bytes) -> None:
    with pytest.raises(InvalidMessage):
        demand.decode(line)


@pytest.mark.parametrize("line", [b"", b"nonsense", b'{"kind":"refund"}', b'{"kind":"intent","requestId":"a"}'])
def test_nonsense_is_no_record(line: bytes) -> None:
    with pytest.raises(InvalidRecord):
        usage.decode(line)


def test_what_is_wrong_with_a_record_is_named() -> None:
    with pytest.raises(InvalidRecord, match="acceptedUs"):
        usage.decode(b'{"kind":"intent","requestId":"a","attempt":1,"acceptedUs":1.5}')


def test_records_are_frozen() -> None:
    report: Line = demand.Report(at_us=1)
    with pytest.raises(ValueError, match="frozen"):
        report.at_us = 2  # type: ignore[attr-defined]
