"""Names fit every object that they are given to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api import names

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


@given(st.from_regex(names.PATTERN_ENDPOINT_NAME))
def test_an_endpoint_name_fits_a_service_and_leaves_room_for_a_pod_suffix(drawn: str) -> None:
    name = drawn.rstrip("\n")
    assert names.is_endpoint_name(name)
    assert DNS_1035.fullmatch(name)
    assert len(f"{name}-{'0' * 10}-{'0' * 5}") <= 63


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "-a", "a.b", "a_b", "a" * 47, "a\n", "é"])
def test_other_texts_are_no_endpoint_names(name: str) -> None:
    assert not names.is_endpoint_name(name)


@pytest.mark.parametrize(
    ("name", "good"), [("1a", True), ("a" * 32, True), ("a" * 33, False), ("a_b", False), ("a\n", False)]
)
def test_names_of_keys(name: str, good: bool) -> None:
    assert names.is_key_name(name) is good


def test_labels_hold_the_selector() -> None:
    labels = names.labels("smollm2")
    assert names.selector("smollm2").items() <= labels.items()
    assert names.selector_text("smollm2") == "zerotide.dev/endpoint=smollm2"
    assert labels["app.kubernetes.io/instance"] == "smollm2"


def test_the_user_behind_a_service_account() -> None:
    assert names.service_account_user("ns", "sa") == "system:serviceaccount:ns:sa"
