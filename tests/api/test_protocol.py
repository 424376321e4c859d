"""Only inference routes are forwarded; what is answered at the gateway never wakes anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.protocol import FORWARDED_PATHS, LOCAL_PATHS, Action, Protocol, Route, model_id, protocol_of, route

PATHS = st.one_of(
    st.sampled_from(sorted(FORWARDED_PATHS | LOCAL_PATHS)),
    st.text("/v1abc.%-", max_size=12).map(lambda text: "/" + text),
)
METHODS = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "post", "CONNECT", ""])


@given(METHODS, PATHS, st.lists(PATHS, max_size=2))
def test_nothing_but_posts_to_listed_paths_is_forwarded(method: str, path: str, extra: list[str]) -> None:
    forwarded = route(method, path, extra).action is Action.FORWARD
    assert forwarded == (method == "POST" and (path in FORWARDED_PATHS or path in extra))


@pytest.mark.parametrize("path", sorted(FORWARDED_PATHS))
def test_every_forwarded_path_has_its_protocol(path: str) -> None:
    expected = Protocol.OPENAI if path.startswith("/v1/") else Protocol.TGI
    assert route("POST", path) == Route(Action.FORWARD, expected)


@pytest.mark.parametrize("path", [*sorted(LOCAL_PATHS), "/v1/models/smollm2", "/v1/models/org/name"])
def test_questions_are_answered_at_the_gateway(path: str) -> None:
    assert route("GET", path).action is Action.LOCAL


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@given(path=PATHS)
def test_head_and_options_never_go_further(method: str, path: str) -> None:
    assert route(method, path, [path]).action is Action.LOCAL


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/v1/chat%2Fcompletions"),
        ("POST", "/x/../generate"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/sleep"),
        ("POST", "//"),
        ("DELETE", "/v1/models/x"),
        ("GET", "/v1/models/"),
    ],
)
def test_admin_routes_and_disguises_are_not_found(method: str, path: str) -> None:
    assert route(method, path).action is Action.NOT_FOUND


def test_the_protocol_of_unknown_paths_follows_their_prefix() -> None:
    assert protocol_of("/v1") is Protocol.OPENAI
    assert protocol_of("/v1/x") is Protocol.OPENAI
    assert protocol_of("/v12") is Protocol.TGI


def test_model_ids_may_hold_slashes() -> None:
    assert model_id("/v1/models/org/name") == "org/name"
    assert model_id("/v1/models") == ""
    assert model_id("/v1/models/") == ""
