"""What of a token is checked: the attacks that are known, each with a real signature where there is one."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.activator.access.issuer import AUDIENCE, ISSUER, Key, ec, ed, encoded, hmac_token, key_set, raw, rsa
from zerotide.activator.access.keyset import read_keys
from zerotide.activator.access.token import LEEWAY_US, read_token
from zerotide.activator.access.trust import KeysUrl, Trust
from zerotide.activator.failures import (
    AlgorithmRefused,
    ConsumerUnfit,
    KeyUnknown,
    SignatureWrong,
    TokenExpired,
    TokenMalformed,
    TokenNotYetValid,
    TokenRefused,
    WrongAudience,
    WrongIssuer,
)
from zerotide.api.scalars import SECOND

TRUST = Trust("demo", ISSUER, frozenset((AUDIENCE, "other")), KeysUrl("https://issuer.example/jwks"), "sub")
KEYS = read_keys(key_set(rsa(), ec(), ed()).encode())
PUBLIC = rsa().private.public_key()
PEM = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def judge(text: str, now_us: int | None = None) -> str:
    """Return who pays for a token."""
    token = read_token(text)
    token.check(TRUST, time.time_ns() // 1000 if now_us is None else now_us)
    token.prove(KEYS.pick(token.kid, token.algorithm))
    return token.consumer(TRUST.consumer_claim)


@pytest.mark.parametrize("key", [rsa(), ec(), ed()], ids=lambda key: key.algorithm)
def test_genuine_tokens(key: Key) -> None:
    """One of each kind of key, with its id and without, for one audience and for several."""
    assert judge(key.sign()) == "team-a"
    assert judge(key.sign({"kid": None})) == "team-a"
    assert judge(key.sign(aud=["x", "other"], nbf=int(time.time()))) == "team-a"


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512"])
def test_other_signatures_of_one_key(algorithm: str) -> None:
    """A key that does not say what it is for checks each that its kind can."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "b", "exp": time.time() + 60}
    assert judge(raw(algorithm, {"kid": "rsa"}, claims, rsa().private)) == "b"


def claims(**more: Any) -> dict[str, Any]:
    """Return good claims, and others."""
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "team-a", "exp": int(time.time()) + 600, **more}


def tampered() -> str:
    """Return a token whose claims were changed after it was signed."""
    head, _, signature = rsa().sign().split(".")
    return f"{head}.{encoded(json.dumps(claims(sub='team-b')).encode())}.{signature}"


NOW = int(time.time())
ATTACKS: dict[str, tuple[str, type[TokenRefused]]] = {
    "not signed": (raw("none", {"kid": "rsa"}, claims(), None), AlgorithmRefused),
    "none in other letters": (
        f"{encoded(json.dumps({'alg': 'nOnE'}).encode())}.{encoded(json.dumps(claims()).encode())}.",
        AlgorithmRefused,
    ),
    "a shared secret, the public key's text": (
        hmac_token(PEM, claims()),
        AlgorithmRefused,
    ),
    "no algorithm": (f"{encoded(b'{}')}.{encoded(json.dumps(claims()).encode())}.{encoded(b'x')}", AlgorithmRefused),
    "an algorithm that is no text": (
        f"{encoded(json.dumps({'alg': ['RS256']}).encode())}.{encoded(json.dumps(claims()).encode())}.eA",
        AlgorithmRefused,
    ),
    "a curve that is not on the list": (
        f"{encoded(json.dumps({'alg': 'ES256K', 'kid': 'ec'}).encode())}.{encoded(json.dumps(claims()).encode())}.eA",
        AlgorithmRefused,
    ),
    "another audience": (rsa().sign(aud="somebody-else"), WrongAudience),
    "no audience": (rsa().sign(aud=None), WrongAudience),
    "an audience that begins alike": (rsa().sign(aud=AUDIENCE + "-2"), WrongAudience),
    "an audience that is no text": (rsa().sign(aud={"zerotide": 1}), WrongAudience),
    "another issuer": (rsa().sign(iss="https://evil.example"), WrongIssuer),
    "an issuer with a slash more": (rsa().sign(iss=ISSUER + "/"), WrongIssuer),
    "an issuer that is no text": (rsa().sign(iss=[ISSUER]), WrongIssuer),
    "no issuer": (rsa().sign(iss=None), WrongIssuer),
    "expired": (rsa().sign(exp=NOW - 60), TokenExpired),
    "without an end": (rsa().sign(exp=None), TokenExpired),
    "an end that is text": (rsa().sign(exp=str(NOW + 600)), TokenExpired),
    "an end that is true": (rsa().sign(exp=True), TokenExpired),
    "an end beyond all numbers": (rsa().sign(exp=float("inf")), TokenExpired),
    "an end that is no number": (rsa().sign(exp=float("nan")), TokenExpired),
    "an end of a thousand digits": (rsa().sign(exp=10**1000), TokenExpired),
    "not yet": (rsa().sign(nbf=NOW + 600), TokenNotYetValid),
    "a beginning that is text": (rsa().sign(nbf="0"), TokenNotYetValid),
    "an unknown key": (rsa().sign({"kid": "none"}), KeyUnknown),
    "the id of another kind of key": (rsa().sign({"kid": "ec"}), KeyUnknown),
    "the place of a key as its id": (rsa().sign({"kid": "0"}), KeyUnknown),
    "an id that is a path": (rsa().sign({"kid": "../../../../dev/null"}), KeyUnknown),
    "an id that is a query": (rsa().sign({"kid": "rsa' OR '1'='1"}), KeyUnknown),
    "an id that is a number": (rsa().sign({"kid": 0}), TokenMalformed),
    "an empty id": (rsa().sign({"kid": ""}), KeyUnknown),
    "a key of its own": (
        rsa("mine").sign({"kid": "mine", "jwk": rsa("mine").jwk(), "jku": "https://evil.example"}),
        KeyUnknown,
    ),
    "a stranger's signature": (rsa("stranger").sign({"kid": "rsa"}), SignatureWrong),
    "a stranger's signature on a curve": (ec("stranger").sign({"kid": "ec"}), SignatureWrong),
    "a stranger's signature by Ed25519": (ed("stranger").sign({"kid": "ed"}), SignatureWrong),
    "changed claims": (tampered(), SignatureWrong),
    "no signature": (rsa().sign().rpartition(".")[0] + ".", SignatureWrong),
    "a signature of zeros": (ec().sign().rpartition(".")[0] + "." + encoded(bytes(64)), SignatureWrong),
    "extensions that are critical": (rsa().sign({"crit": ["exp"]}), TokenMalformed),
    "a payload beside it": (rsa().sign({"b64": False, "crit": ["b64"]}), TokenMalformed),
    "no consumer": (rsa().sign(sub=None), ConsumerUnfit),
    "an empty consumer": (rsa().sign(sub=""), ConsumerUnfit),
    "a consumer of another namespace": (rsa().sign(sub="other/team-a"), ConsumerUnfit),
    "a consumer that is a number": (rsa().sign(sub=7), ConsumerUnfit),
    "a consumer that is a list": (rsa().sign(sub=["team-a"]), ConsumerUnfit),
    "a consumer of two lines": (rsa().sign(sub="a\nb"), ConsumerUnfit),
    "a consumer that cannot be seen": (rsa().sign(sub="\u202eteam-a"), ConsumerUnfit),
    "a consumer that is half a letter": (rsa().sign(sub="\ud800"), ConsumerUnfit),
    "a consumer without end": (rsa().sign(sub="x" * 300), ConsumerUnfit),
    "huge": (rsa().sign(more="x" * 8192), TokenMalformed),
    "one part": ("eyJhbGciOiJSUzI1NiJ9", TokenMalformed),
    "five parts, encrypted": ("eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d", TokenMalformed),
    "not base64": ("a.b!.c", TokenMalformed),
    "not JSON": (f"{encoded(b'{')}.{encoded(b'{}')}.{encoded(b'x')}", TokenMalformed),
    "a header that is a list": (f"{encoded(b'[]')}.{encoded(b'{}')}.{encoded(b'x')}", TokenMalformed),
    "claims that are a list": (f"{encoded(json.dumps({'alg': 'RS256'}).encode())}.{encoded(b'[]')}.eA", TokenMalformed),
    "deeply nested claims": (
        f"{encoded(json.dumps({'alg': 'RS256'}).encode())}.{encoded(b'[' * 2000)}.eA",
        TokenMalformed,
    ),
    "other alphabets": ("ｅｙＪ.ｅｙＪ.ａ", TokenMalformed),
    "nothing": ("..", TokenMalformed),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    """Each is refused for its own reason, so that no other check hides one that is missing."""
    text, failure = ATTACKS[name]
    with pytest.raises(failure) as refused:
        judge(text)
    assert type(refused.value) is failure
    assert refused.value.reason


def test_clocks_may_differ_a_little() -> None:
    """By the leeway, and by not a microsecond more."""
    end, begin = 2_000_000_000, 1_999_999_000
    text = rsa().sign(exp=end, nbf=begin)
    assert judge(text, end * SECOND + LEEWAY_US - 1) == "team-a"
    assert judge(text, begin * SECOND - LEEWAY_US) == "team-a"
    with pytest.raises(TokenExpired):
        judge(text, end * SECOND + LEEWAY_US)
    with pytest.raises(TokenNotYetValid):
        judge(text, begin * SECOND - LEEWAY_US - 1)
    assert read_token(text).check(TRUST, begin * SECOND) == end * SECOND + LEEWAY_US


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: f"{encoded(data)}.{encoded(data)}.x"))
def test_no_text_does_harm(text: str) -> None:
    """Whatever comes is refused, and in no other way."""
    with pytest.raises(TokenRefused):
        judge(text)


@given(st.integers(0, 2**32), st.integers(1, 255))
def test_no_bit_may_be_changed(place: int, mask: int) -> None:
    """A genuine token with any other byte in it is refused."""
    text = GENUINE.encode()
    place %= len(text)
    changed = text[:place] + bytes([text[place] ^ mask]) + text[place + 1 :]
    with pytest.raises(TokenRefused):
        judge(changed.decode("latin-1"))


GENUINE = ed().sign()
