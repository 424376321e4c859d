"""gRPC's words: every row of the table has a status, messages survive, deadlines are read and written."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.errors import TABLE, ErrorCode
from zerotide.api.grpc import encode_message, format_timeout, http_status_of, parse_timeout, status_of


def test_every_row_has_a_status() -> None:
    """None is OK, none unknown; what a retry can heal is UNAVAILABLE or RESOURCE_EXHAUSTED, what it cannot is not."""
    for row in TABLE:
        status = status_of(row.code)
        assert status not in (0, 2)
        if row.status == 503 and row.code is not ErrorCode.START_BACKOFF:
            assert status == 14
        if row.status == 500:
            assert status == 9


@given(st.text(max_size=50))
def test_messages_survive(message: str) -> None:
    """Encoded, they are what a header can carry; decoded, they are what they were."""
    try:
        message.encode()
    except UnicodeEncodeError:
        return
    encoded = encode_message(message)
    assert all(0x20 <= ord(char) < 0x7F for char in encoded)
    assert unquote(encoded) == message


@pytest.mark.parametrize(
    ("text", "seconds"), [("1H", 3600), ("2M", 120), ("30S", 30), ("5m", 0.005), ("7u", 7e-6), ("9n", 9e-9)]
)
def test_timeouts_are_read(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "S", "-1S", "1s", "123456789S", "1.5S", "1S ", "١S"])
def test_what_is_no_timeout(text: str) -> None:
    assert parse_timeout(text) is None


@given(st.floats(-10, 1e9))
def test_timeouts_are_written(seconds: float) -> None:
    """As they are read, but for a millisecond, and never zero."""
    read = parse_timeout(format_timeout(seconds))
    assert read is not None
    assert read == pytest.approx(min(max(seconds, 0.001), 99_999.999), abs=0.0006)


@given(st.integers(0, 1000))
def test_statuses_that_figures_count(status: int) -> None:
    assert (http_status_of(status) == 200) is (status == 0)
    assert 200 <= http_status_of(status) < 600
