"""How requests are read: names, bodies, patience."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from zerotide.activator.admission.naming import HostName, Name, of_header, of_host, of_path
from zerotide.activator.admission.payload import Careful, asked, members, prepare, read_json
from zerotide.activator.admission.waits import longest_hold
from zerotide.api.errors import ErrorCode, Rejection

READ = ("model", "stream", "stream_options")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("m.demo", HostName(Name("demo", "m"), False)),
        ("m.demo:8080", HostName(Name("demo", "m"), False)),
        ("M.DEMO.svc", HostName(Name("demo", "m"), True)),
        ("m.demo.svc.cluster.local.", HostName(Name("demo", "m"), True)),
        ("m", HostName(Name("", "m"), False)),
        ("localhost:80", HostName(Name("", "localhost"), False)),
        ("127.0.0.1:80", None),
        ("[::1]:80", None),
        ("a.b.example.com", None),
        ("m..svc", None),
        ("m.", HostName(Name("", "m"), False)),
        ("", None),
        ("-m.demo", None),
    ],
)
def test_hosts(host: str, name: HostName | None) -> None:
    """A host names an endpoint as the cluster's Services are named."""
    assert of_host(host) == name


@pytest.mark.parametrize(
    ("target", "name", "rest"),
    [
        ("/v1/models", None, "/v1/models"),
        ("/endpoints/demo/m", Name("demo", "m"), "/"),
        ("/endpoints/demo/m/", Name("demo", "m"), "/"),
        ("/endpoints/demo/m?x=1", Name("demo", "m"), "/?x=1"),
        ("/endpoints/demo/m/v1/a?b=/c", Name("demo", "m"), "/v1/a?b=/c"),
        ("/endpoints", None, "/endpoints"),
    ],
)
def test_paths(target: str, name: Name | None, rest: str) -> None:
    """The prefix names an endpoint and is taken off."""
    assert of_path(target) == (name, rest)


@pytest.mark.parametrize(
    "target", ["/endpoints/", "/endpoints/demo", "/endpoints/demo/", "/endpoints//m", "/endpoints/demo//x"]
)
def test_paths_that_name_nothing(target: str) -> None:
    """A prefix without a name is an error, not another route."""
    with pytest.raises(Rejection) as told:
        of_path(target)
    assert told.value.code is ErrorCode.ENDPOINT_NOT_FOUND


def test_headers() -> None:
    """The header is `namespace/name`."""
    assert of_header("") is None
    assert of_header("demo/m") == Name("demo", "m")
    for value in ("m", "/m", "demo/"):
        with pytest.raises(Rejection):
            of_header(value)


@given(st.dictionaries(st.text(), JSON, max_size=6), st.booleans(), st.sampled_from([None, 0, 2]))
def test_members_are_those_of_json(content: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """Values are what a JSON parser finds, and each place holds exactly its value."""
    text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
    found = members(text)
    assert {name: member.value for name, member in found.items()} == content
    for member in found.values():
        assert json.loads(text[member.start : member.end]) == member.value


@given(st.text())
def test_members_of_anything(text: str) -> None:
    """What is no JSON object is a ValueError, and what is one is read as json reads it."""
    try:
        expected = json.loads(text)
    except (ValueError, RecursionError):
        expected = None
    try:
        found = members(text)
    except ValueError:
        assert not isinstance(expected, dict)
    else:
        assert {name: member.value for name, member in found.items()} == expected


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in ("model", "stream", "stream_options")), JSON, max_size=4
    ),
    st.sampled_from(["m", "other/alias", "ü"]),
    st.sampled_from([None, True, False]),
    st.sampled_from([..., None, {}, {"include_usage": True}, {"include_usage": False, "x": 1}]),
)
def test_edits_change_nothing_else(content: dict[str, Any], model: str, stream: bool | None, options: Any) -> None:
    """The body says the engine's model, asks for usage where it streams, and is otherwise what the client sent."""
    sent = {**content, "model": model, "stream": stream, **({} if options is ... else {"stream_options": options})}
    text, found = read_json(json.dumps(sent).encode(), "/v1/completions")
    payload = prepare(text, found, "/v1/completions", "real")
    got = json.loads(payload.body)
    asked = isinstance(options, dict) and options.get("include_usage") is True
    assert payload.adds_usage is (stream is True and not asked)
    expected = {**sent, "model": "real"}
    if payload.adds_usage:
        expected["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    assert got == expected
    assert (payload.model, payload.stream) == (model, stream is True)


MEMBERS = st.tuples(
    st.sampled_from(['"model"', '"stream"', '"stream_options"', '"mod\\u0065l"', '"messages"']),
    st.sampled_from(
        ['"m"', '"real"', '""', "null", "true", "false", "1", "{}", '{"include_usage":true}', '[{"model":"x"}]', "NaN"]
    ),
)


@given(
    st.lists(MEMBERS, max_size=5),
    st.sampled_from(["", " ", "\n\t"]),
    st.sampled_from(["", "x", "}"]),
    st.sampled_from(["/v1/chat/completions", "/v1/embeddings", "/generate_stream", "/generate"]),
)
def test_a_glance_sees_what_care_does(pairs: list[tuple[str, str]], space: str, after: str, path: str) -> None:
    """However a body is read, it asks for the same, is changed in the same way, and refused for the same reason."""
    body = (space + "{" + space + ",".join(f"{name}:{value}" for name, value in pairs) + "}" + after).encode()

    def outcome(careful: bool) -> Any:
        try:
            wish = Careful(*read_json(body, path)) if careful else asked(body, path)
            return wish.model, wish.payload(body, path, "real")
        except Rejection as rejection:
            return rejection.code, rejection.message

    def meaning(told: Any) -> Any:
        if isinstance(told[0], ErrorCode):
            return told
        model, payload = told
        return model, json.loads(payload.body), payload.model, payload.stream, payload.adds_usage

    assert meaning(outcome(careful=False)) == meaning(outcome(careful=True))


def test_an_unchanged_body_is_the_same_bytes() -> None:
    """Not even white space or the way of writing numbers changes."""
    body = '{ "model" : "m" ,\n "x":1.0e3, "y":"\\u00e9é", "stream_options": "odd", "stream":true}'.encode()
    text, found = read_json(body, "/v1/completions")
    assert prepare(text, found, "/v1/completions", "m").body == body


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], math.inf),
        ([(b"prefer", b"wait=30")], 30),
        ([(b"prefer", b"respond-async, wait=10; x=1")], 10),
        ([(b"prefer", b'handling=lenient, WAIT="7"')], 7),
        ([(b"prefer", b"await=3")], math.inf),
        ([(b"prefer", b"wait=soon")], math.inf),
        ([(b"x-scale-up-timeout", b"20")], 20),
        ([(b"x-request-timeout", b"2.5"), (b"prefer", b"wait=30")], 2.5),
        ([(b"x-request-timeout", b"9s")], 9),
        ([(b"x-stainless-read-timeout", b"600")], 595),
        ([(b"x-stainless-read-timeout", b"3")], 1),
        ([(b"x-stainless-read-timeout", b"nan")], math.inf),
        ([(b"x-stainless-read-timeout", b"0")], math.inf),
        ([(b"prefer", b"wait=0")], 0),
    ],
)
def test_patience(headers: list[tuple[bytes, bytes]], seconds: float) -> None:
    """The shortest of what a request says of its patience counts."""
    assert longest_hold(headers) == seconds


def test_patience_that_is_no_time() -> None:
    """A header that was meant to bound the wait, and does not, is an error."""
    for name in (b"x-request-timeout", b"x-scale-up-timeout"):
        with pytest.raises(Rejection) as told:
            longest_hold([(name, b"-1")])
        assert told.value.code is ErrorCode.INVALID_REQUEST
