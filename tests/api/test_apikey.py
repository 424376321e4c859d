"""Keys round trip, are told apart from anything else, and never show their secret."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.apikey import APIKey, digest, format_key, parse_key, verify
from zerotide.api.failures import InvalidKey, InvalidObject, KeyChecksumMismatch, MalformedKey

NAMES = st.from_regex(re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", re.ASCII), fullmatch=True)
SECRETS = st.binary(min_size=32, max_size=32)
NOW = 1_790_000_000_000_000


@given(NAMES, SECRETS)
def test_a_key_round_trips(name: str, secret: bytes) -> None:
    text = format_key(name, secret)
    assert len(text) == len("zt_") + len(name) + len("_") + 49
    assert parse_key(text) == (name, secret)


@given(NAMES, SECRETS, st.data())
def test_one_wrong_character_is_always_seen(name: str, secret: bytes, data: st.DataObject) -> None:
    text = format_key(name, secret)
    at = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(codec="ascii").filter(lambda other: other != text[at]))
    with pytest.raises(InvalidKey):
        parse_key(text[:at] + character + text[at + 1 :])


@given(NAMES, SECRETS, st.data())
def test_a_cut_key_is_always_seen(name: str, secret: bytes, data: st.DataObject) -> None:
    text = format_key(name, secret)
    with pytest.raises(InvalidKey):
        parse_key(text[: data.draw(st.integers(0, len(text) - 1))])


@given(st.text())
def test_other_texts_are_no_keys(text: str) -> None:
    with pytest.raises(MalformedKey):
        parse_key(text)


@given(SECRETS, SECRETS)
def test_a_key_verifies_against_its_own_digest_only(secret: bytes, other: bytes) -> None:
    key = parse_key(format_key("a", secret))
    assert verify(key, digest(secret))
    assert verify(key, digest(other)) == (secret == other)


def test_the_text_of_a_key_is_fixed() -> None:
    text = format_key("team-a", bytes(range(32)))
    assert text == "zt_team-a_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" + text[-6:]
    assert digest(bytes(range(32))) == "sha256:630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"


def test_a_wrong_checksum_has_an_error_of_its_own() -> None:
    text = format_key("a", bytes(32))
    with pytest.raises(KeyChecksumMismatch, match="mistyped or cut"):
        parse_key(text[:-1] + ("0" if text[-1] != "0" else "1"))


def test_unused_bits_of_the_secret_must_be_zero() -> None:
    from zerotide.api import apikey

    body = "zt_a_" + "A" * 42 + "B"
    with pytest.raises(MalformedKey, match="bits that mean nothing"):
        parse_key(body + apikey._checksum(body))


@pytest.mark.parametrize(
    ("name", "secret"), [("a_b", bytes(32)), ("A", bytes(32)), ("a" * 33, bytes(32)), ("a", bytes(31))]
)
def test_a_key_is_never_made_of_bad_parts(name: str, secret: bytes) -> None:
    with pytest.raises(MalformedKey):
        format_key(name, secret)


def test_the_repr_and_the_errors_hide_the_secret() -> None:
    text = format_key("a", bytes(range(32)))
    assert "hidden" in repr(parse_key(text))
    assert "\\x" not in repr(parse_key(text))
    with pytest.raises(MalformedKey) as caught:
        parse_key(text + "x")
    assert text not in str(caught.value)


def object_(**spec: object) -> dict[str, object]:
    return {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "APIKey",
        "metadata": {"name": "ci", "namespace": "demo", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"digest": digest(bytes(32)), "consumer": "team-a", **spec},
    }


def test_a_key_opens_its_namespace_or_the_endpoints_that_it_names() -> None:
    key = APIKey.parse(object_())
    assert key.consumer == "demo/team-a"
    assert key.opens("demo", "anything")
    assert not key.opens("other", "anything")
    named = APIKey.parse(object_(endpoints=["smollm2"]))
    assert named.opens("demo", "smollm2")
    assert not named.opens("demo", "llama")
    assert not named.opens("other", "smollm2")


def test_a_key_lives_until_it_expires_is_suspended_or_deleted() -> None:
    assert APIKey.parse(object_()).is_live(NOW)
    assert not APIKey.parse(object_(suspend=True)).is_live(NOW)
    expiring = APIKey.parse(object_(expirationTime="2026-09-21T14:13:20Z"))
    assert expiring.is_live(NOW - 1)
    assert not expiring.is_live(NOW)
    deleted = object_()
    deleted["metadata"] = {"name": "ci", "namespace": "demo", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert not APIKey.parse(deleted).is_live(NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [("digest", "sha256:xyz"), ("consumer", "a/b"), ("endpoints", []), ("endpoints", ["a", "a"]), ("maxInFlight", 0)],
)
def test_bad_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(InvalidObject, match=field):
        APIKey.parse(object_(**{field: value}))
