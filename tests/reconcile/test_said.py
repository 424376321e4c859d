"""What engines' pages of metrics say of their load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reconcile.helpers import endpoint
from zerotide.reconcile.engines.said import TOKENS, WAITING, Said, said
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
    assert said(page) == Said(count)


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ('sglang:num_used_tokens{tp_rank="0"} 1234.0\n', 1_234),
        ("tgi_batch_current_max_tokens 960\n", 960),
        ('vllm:kv_cache_usage_perc{engine="0"} 0.25\n', None),
        (
            'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0\n'
            'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25\n',
            4_000,
        ),
        (
            'vllm:kv_cache_usage_perc{engine="0"} 0.5\nvllm:kv_cache_usage_perc{engine="1"} 9.5e-05\n'
            'vllm:cache_config_info{engine="0",kv_cache_size_tokens="100000",num_gpu_blocks="9",block_size="1"} 1.0\n'
            'vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="6250"} 1.0\n',
            50_009,
        ),
        (
            'vllm:gpu_cache_usage_perc{model_name="m"} 0.1\n'
            'vllm:cache_config_info{block_size="16",num_gpu_blocks="100",num_gpu_blocks_override="None"} 1.0\n',
            160,
        ),
        ('vllm:kv_cache_usage_perc 0.5\nvllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\n', None),
        ("sglang:num_used_tokens -1\n", None),
        ("tgi_batch_current_max_tokens 1e999\n", 10**9),
        ("llamacpp:kv_cache_tokens 5\n", None),
    ],
)
def test_tokens(page: str, count: int | None) -> None:
    """Those in flight: vLLM's from the share of its cache, for each of its engines; not what a cache merely keeps."""
    assert said(page) == Said(None, count)


@given(st.text(), st.sampled_from(sorted(WAITING)), st.sampled_from(sorted(TOKENS)), st.integers(0, 10**6))
def test_whatever_else_is_on_the_page(noise: str, name: str, of_tokens: str, count: int) -> None:
    """It neither fails nor hides what is said."""
    for told in (said(noise).waiting, said(noise).tokens):
        assert told is None or 0 <= told <= 10**9
    assert said(f"{name} {count}\n{of_tokens} {count + 1}\n") == Said(count, count + 1)


def test_the_operator_may_come_in_where_it_is_to_ask() -> None:
    """And nowhere else."""

    def callers(spec: dict[str, object]) -> list[str]:
        rules = network_policy(endpoint(spec), "system").object["spec"]["ingress"]
        selectors = [each["podSelector"]["matchLabels"] for each in rules[0]["from"]]
        return [each["app.kubernetes.io/component"] for each in selectors]

    assert callers({}) == ["activator"]
    asking = ({"engineQueue": {"target": 4}}, {"tokensInFlight": {"target": 4}}, {"ping": {"interval": "1m"}})
    for scaling in asking:
        assert callers({"scaling": scaling}) == ["activator", "operator"]
