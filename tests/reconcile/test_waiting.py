"""What engines' pages of metrics say of their queues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reconcile.helpers import endpoint
from zerotide.reconcile.engines.waiting import NAMES, waiting
from zerotide.reconcile.network_policy import network_policy


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("", None),
        ("# HELP vllm:num_requests_waiting 5\nup 1\n", None),
        ('vllm:num_requests_waiting{model_name="a b"} 3.0\nvllm:num_requests_running{} 8\n', 3),
        ('sglang:num_queue_reqs{tp="0"} 2\nsglang:num_queue_reqs{tp="1"} 1\n', 3),
        ("llamacpp:requests_deferred 46\n", 46),
        ("tgi_queue_size 1e2 1790000000\n", 100),
        ("my_tgi_queue_size 4\n", None),
        ("tgi_queue_size NaN\n", None),
        ("tgi_queue_size ++\n", None),
        ("tgi_queue_size 1e300\n", 10**9),
    ],
)
def test_pages(page: str, count: int | None) -> None:
    """Samples of the known names are summed, whatever their labels; what is no number is no answer."""
    assert waiting(page) == count


@given(st.text(), st.sampled_from(sorted(NAMES)), st.integers(0, 10**6))
def test_whatever_else_is_on_the_page(noise: str, name: str, count: int) -> None:
    """It neither fails nor hides what is said."""
    assert waiting(noise) is None or isinstance(waiting(noise), int)
    assert (waiting(f"{name} {count}\n") or 0) == count


def test_the_operator_may_come_in_where_it_is_to_ask() -> None:
    """And nowhere else."""

    def callers(spec: dict[str, object]) -> list[str]:
        rules = network_policy(endpoint(spec), "system").object["spec"]["ingress"]
        selectors = [each["podSelector"]["matchLabels"] for each in rules[0]["from"]]
        return [each["app.kubernetes.io/component"] for each in selectors]

    assert callers({}) == ["activator"]
    assert callers({"scaling": {"engineQueue": {"target": 4}}}) == ["activator", "operator"]
