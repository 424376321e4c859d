"""Every row of the error table keeps the promises that clients' retry rules are built on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.conditions import Reason, State
from zerotide.api.errors import (
    REASONS,
    SOON_US,
    START_BACKOFF_LATER,
    START_BACKOFF_SOON,
    TABLE,
    ErrorCode,
    Rejection,
    RetryAfter,
    Row,
    code_of_reason,
    error_body,
    error_event,
    error_headers,
    retry_after_seconds,
    row,
)
from zerotide.api.protocol import Protocol

EVERY_ROW = pytest.mark.parametrize("line", TABLE, ids=lambda line: f"{line.code.value}-{line.status}")
DUE = {START_BACKOFF_SOON: 5_000_000}

PUBLISHED = """
invalid_request endpoint_mismatch ambiguous_model | 400 | invalid_request_error | NONE |
invalid_api_key | 401 | invalid_request_error | NONE |
budget_exhausted | 402 | insufficient_quota | NONE | false
forbidden | 403 | permission_error | NONE |
model_not_found endpoint_not_found route_not_found | 404 | invalid_request_error | NONE |
request_too_large | 413 | invalid_request_error | NONE |
consumer_limit | 429 | rate_limit_error | ONE | true
queue_full | 429 | rate_limit_error | ESTIMATE | true
endpoint_cold hold_timeout unschedulable ledger_unavailable start_backoff | 503 | service_unavailable | ESTIMATE | true
start_backoff suspended never_schedulable image_pull_failed crash_looping | 500 | server_error | NONE | false
out_of_memory credentials_missing model_download_failed pod_refused | 500 | server_error | NONE | false
invalid_pod_template start_deadline_exceeded | 500 | server_error | NONE | false
upstream_lost | 502 | server_error | NONE | false
upstream_timeout | 504 | server_error | NONE | false
"""


def due(line: Row) -> int | None:
    return DUE.get(line)


def test_the_table_is_the_published_one() -> None:
    published = set()
    for text in PUBLISHED.strip().splitlines():
        codes, status, type_, retry_after, should_retry = (cell.strip() for cell in text.split("|"))
        retry = {"true": True, "false": False, "": None}[should_retry]
        published |= {(code, int(status), type_, RetryAfter[retry_after], retry) for code in codes.split()}
    assert {(line.code.value, *line[1:5]) for line in TABLE} == published


@EVERY_ROW
def test_rows_are_found_by_their_code(line: Row) -> None:
    assert row(line.code, due(line)) is line


@EVERY_ROW
def test_only_what_a_retry_can_heal_asks_for_one(line: Row) -> None:
    assert (line.should_retry is True) == (line.status in (429, 503))
    assert (line.retry_after is not RetryAfter.NONE) == (line.should_retry is True)
    assert line.status not in (408, 409)
    assert line.docs.endswith(".")


@EVERY_ROW
def test_the_openai_body(line: Row) -> None:
    body = json.loads(error_body(line.code, "what happened", Protocol.OPENAI, due_us=due(line), param="model"))
    expected = {"message": "what happened", "type": line.type, "param": "model", "code": line.code.value}
    assert body == {"error": expected}


@EVERY_ROW
def test_the_tgi_body(line: Row) -> None:
    body = json.loads(error_body(line.code, "", Protocol.TGI, due_us=due(line)))
    special = {429: "overloaded", 400: "validation", 413: "validation"}
    assert body == {"error": line.docs, "error_type": special.get(line.status, line.code.value)}


@EVERY_ROW
@pytest.mark.parametrize("protocol", Protocol)
def test_the_event_in_a_stream_has_error_first_and_the_status(line: Row, protocol: Protocol) -> None:
    event = error_event(line.code, "x\n\ny", protocol, due_us=due(line))
    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    content = json.loads(event[len(b"data: ") :])
    holder = content["error"] if protocol is Protocol.OPENAI else content
    assert holder["status"] == line.status


@EVERY_ROW
def test_the_headers(line: Row) -> None:
    ready_in = due(line) or 5_000_000
    if line is START_BACKOFF_LATER:
        ready_in = SOON_US + 1
    headers = error_headers(line.code, ready_in_us=ready_in)
    assert headers["X-Zerotide-Error"] == line.code.value
    assert headers["Content-Type"] == "application/json"
    assert headers.get("x-should-retry") == {True: "true", False: "false", None: None}[line.should_retry]
    expected = {RetryAfter.NONE: None, RetryAfter.ONE: "1", RetryAfter.ESTIMATE: "5"}[line.retry_after]
    assert headers.get("Retry-After") == expected
    assert headers.get("X-Zerotide-Ready-In") == ("5" if line.retry_after is RetryAfter.ESTIMATE else None)
    assert ("WWW-Authenticate" in headers) == (line.status == 401)


@given(st.one_of(st.none(), st.integers(0, 10**12)), st.floats(-1, 1))
def test_retry_after_stays_between_one_and_sixty_and_near_the_estimate(ready_in: int | None, jitter: float) -> None:
    seconds = retry_after_seconds(row(ErrorCode.HOLD_TIMEOUT), ready_in, jitter)
    assert seconds is not None
    assert 1 <= seconds <= 60
    if ready_in is not None and 2_000_000 <= ready_in <= 50_000_000:
        assert abs(seconds - ready_in / 1e6) <= ready_in / 1e7 + 0.51


def test_without_history_a_client_comes_back_after_ten_seconds_and_is_promised_nothing() -> None:
    headers = error_headers(ErrorCode.HOLD_TIMEOUT)
    assert headers["Retry-After"] == "10"
    assert "X-Zerotide-Ready-In" not in headers


def test_the_honest_figure_is_rounded_up_and_not_clamped() -> None:
    headers = error_headers(ErrorCode.HOLD_TIMEOUT, ready_in_us=120_000_001)
    assert headers["Retry-After"] == "60"
    assert headers["X-Zerotide-Ready-In"] == "121"


def test_a_back_off_is_worth_a_retry_only_within_a_minute() -> None:
    assert row(ErrorCode.START_BACKOFF, SOON_US) is START_BACKOFF_SOON
    assert row(ErrorCode.START_BACKOFF, SOON_US + 1) is START_BACKOFF_LATER
    assert row(ErrorCode.START_BACKOFF) is START_BACKOFF_LATER


def test_every_reason_that_ends_accepting_has_a_code() -> None:
    never_ends_accepting = {
        Reason.SCALED_TO_ZERO,
        Reason.NEVER_SERVED,
        Reason.WAKING,
        Reason.SERVING,
        Reason.MODEL_NAME_CONFLICT,
        Reason.ROLLING_OUT,
    }
    assert set(Reason) - set(REASONS) == never_ends_accepting
    assert code_of_reason("Suspended") is ErrorCode.SUSPENDED
    assert code_of_reason("OutOfMemory") is ErrorCode.OUT_OF_MEMORY
    assert code_of_reason("SomethingNew") is ErrorCode.ENDPOINT_COLD
    assert State.FAILED.value == "Failed"


def test_a_rejection_carries_its_row_and_a_message() -> None:
    with pytest.raises(Rejection, match="suspended by its owner") as caught:
        raise Rejection(ErrorCode.SUSPENDED)
    assert caught.value.row.status == 500
    assert Rejection(ErrorCode.START_BACKOFF, "soon", ready_in_us=1).row.status == 503


def test_text_that_is_no_unicode_cannot_break_a_body() -> None:
    assert json.loads(error_body(ErrorCode.INVALID_REQUEST, "\ud800", Protocol.TGI))["error"] == "?"
