"""Which keys of an issuer's set are taken, and that a choice among them is never a guess."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.activator.access.issuer import Key, ec, ed, key_set, rsa
from zerotide.activator.access.keyset import MOST_KEYS, KeySet, read_keys
from zerotide.activator.access.token import read_token
from zerotide.activator.failures import KeysMalformed, KeysMissing, KeysUnavailable, KeyUnknown


def of(*items: Any) -> KeySet:
    """Read a set of these keys."""
    return read_keys(json.dumps({"keys": list(items)}).encode())


def private() -> dict[str, Any]:
    """Return a key with a secret part, as far as it says."""
    return rsa().jwk(d="AQAB")


UNFIT: dict[str, Any] = {
    "a shared secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
    "for encryption": rsa().jwk(use="enc"),
    "for other operations": rsa().jwk(key_ops=["sign"]),
    "operations that are no list": rsa().jwk(key_ops="verify"),
    "another algorithm": rsa().jwk(alg="RSA-OAEP"),
    "an algorithm of another kind of key": rsa().jwk(alg="HS256"),
    "a short one": rsa("short", bits=1024).jwk(),
    "a private one": private(),
    "half of one": {"kty": "RSA", "n": rsa().jwk()["n"], "kid": "rsa"},
    "a broken one": {"kty": "RSA", "n": "!", "e": "AQAB"},
    "members that are numbers": {"kty": "RSA", "n": 1, "e": 3},
    "no point of its curve": ec().jwk(x="AAAA"),
    "an unknown curve": {**ec().jwk(), "crv": "secp256k1"},
    "a key for exchange": {**ed().jwk(), "crv": "X25519"},
    "an id that is a number": rsa().jwk(kid=1),
    "a kind that is a list": {"kty": ["RSA"]},
    "no kind": {},
    "no object": "key",
}


@pytest.mark.parametrize("name", UNFIT)
def test_keys_that_are_passed_over(name: str) -> None:
    """The others of the set are taken all the same; alone they are no key set."""
    with pytest.raises(KeysMissing):
        of(UNFIT[name])
    assert of(UNFIT[name], ec().jwk()).pick("ec", "ES256").key_type == "EC"


def test_a_key_is_for_its_own_algorithm() -> None:
    """One that says which is for no other; one that does not, for each that its kind can do."""
    told, silent = of(rsa().jwk(alg="PS256")), of(rsa().jwk())
    assert told.pick("rsa", "PS256").algorithm_name == "PS256"
    assert silent.pick("rsa", "RS512").algorithm_name == "RS512"
    for keys, algorithm in ((told, "RS256"), (silent, "ES256"), (silent, "HS256"), (silent, "none")):
        with pytest.raises(KeyUnknown):
            keys.pick("rsa", algorithm)


def test_a_token_without_an_id_leaves_no_choice() -> None:
    """With one key of the kind it is that one, with two it is none, whether those have ids or not."""
    assert of(rsa().jwk(), ec().jwk()).pick(None, "RS256").key_type == "RSA"
    nameless = [{name: value for name, value in key.jwk().items() if name != "kid"} for key in (ed(), ed("other"))]
    assert of(nameless[0]).pick(None, "EdDSA").key_type == "OKP"
    for pair in (nameless, [ed().jwk(), nameless[1]]):
        with pytest.raises(KeyUnknown):
            of(*pair).pick(None, "EdDSA")


def test_two_keys_of_one_id() -> None:
    """Of different kinds both are there, of one kind the first."""
    keys = of(rsa().jwk(kid="k"), ec().jwk(kid="k"), rsa("stranger").jwk(kid="k"))
    assert keys.pick("k", "ES256").key_type == "EC"
    read_token(rsa().sign({"kid": "k"})).prove(keys.pick("k", "RS256"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '"keys"', "{}", '{"keys":{}}', '{"keys":null}', "[" * 100_000, "<html>", "\xff"],
)
def test_what_is_no_key_set(text: str) -> None:
    """It is told from a set that was emptied, which withdraws all keys."""
    with pytest.raises(KeysMalformed):
        read_keys(text.encode("latin-1"))
    with pytest.raises(KeysMissing):
        read_keys(b'{"keys":[]}')


def test_too_many_keys() -> None:
    """A set is bounded."""
    of(*[ed(str(number)).jwk() for number in range(MOST_KEYS)])
    with pytest.raises(KeysMalformed, match="more than 64"):
        of(*[{}] * (MOST_KEYS + 1))


@given(st.lists(st.sampled_from([rsa(), ec(), ed(), ec("p384", "ES384")]), min_size=1, unique=True))
def test_every_key_is_found_by_its_id(keys: list[Key]) -> None:
    """In any order and company."""
    read = read_keys(key_set(*keys).encode())
    for key in keys:
        assert read.pick(key.kid, key.algorithm).key_type == key.jwk()["kty"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["keys", "kty", "kid", "n", "e", "crv", "x", "y", "use", "alg"]), inner)
        ),
        max_leaves=20,
    )
)
def test_no_content_does_harm(content: Any) -> None:
    """Whatever somebody publishes is a key set, or refused as none."""
    with pytest.raises(KeysUnavailable):
        read_keys(json.dumps({"keys": content}).encode())
