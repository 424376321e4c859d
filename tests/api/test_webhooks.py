"""What webhooks are signed with, and how: by the published example, and by what no key may be."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.failures import InvalidSecret
from zerotide.api.webhooks import MOST_KEYS, signed, signing_keys


def test_the_example_that_implementations_share() -> None:
    keys = signing_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert signed(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


KEYS = st.binary(min_size=24, max_size=64)


@given(st.lists(KEYS, min_size=1, max_size=MOST_KEYS), st.booleans(), st.sampled_from([" ", "\n", "\r\n", "  \t"]))
def test_keys_are_read_as_they_are_written(keys: list[bytes], prefixed: bool, between: str) -> None:
    words = [("whsec_" if prefixed else "") + base64.b64encode(key).decode() for key in keys]
    assert signing_keys(between.join(words) + "\n") == tuple(keys)
    signatures = signed(keys, "msg_1", 5, b"{}")["webhook-signature"].split(" ")
    assert len(signatures) == len(keys) and all(each.startswith("v1,") for each in signatures)


@given(KEYS, st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 2**40), st.integers(0, 2**40))
def test_another_body_or_time_has_another_signature(key: bytes, one: bytes, two: bytes, now: int, then: int) -> None:
    same = (one, now) == (two, then)
    assert (signed([key], "msg_1", now, one) == signed([key], "msg_1", then, two)) is same


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "from 1 to 4 keys with spaces between them, not 0"),
        (" ".join(["whsec_" + "A" * 32] * 5), "not 5"),
        ("whsec_", "its key 1 has 0 bytes"),
        ("whsec_" + "A" * 28, "its key 1 has 21 bytes"),
        ("whsec_" + "A" * 88, "its key 1 has 66 bytes"),
        ("whsec_" + "A" * 32 + " whsec_p=ssw0rd", "its key 2 is not whsec_ and base64"),
        ("whsec_" + "ä" * 32, "its key 1 is not whsec_ and base64"),
    ],
)
def test_what_is_no_key_is_said_and_not_repeated(text: str, words: str) -> None:
    with pytest.raises(InvalidSecret, match=words) as caught:
        signing_keys(text)
    assert "ssw0rd" not in str(caught.value) and "AAAA" not in str(caught.value)
