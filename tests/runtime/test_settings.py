"""Settings, model locations, limits of the container, and the metrics page."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide_runtime.engine.limits import (
    OVERHEAD,
    cache_tokens,
    cpu_threads,
    memory_limit,
    prepare_torch,
    room_for_blocks,
)
from zerotide_runtime.errors import ListenError, OutOfMemory, SettingsError
from zerotide_runtime.locate import HubModel, parse_location, resolve
from zerotide_runtime.port import open_port
from zerotide_runtime.server.metrics import Counter, Gauge, Histogram, render
from zerotide_runtime.settings import OPTIONS, read_settings


def test_flags_win_over_the_environment() -> None:
    environment = {"ZEROTIDE_MODEL_URI": "image:///models/smollm2", "PORT": "9000", "ZEROTIDE_MODEL_ALIASES": "a, b,"}
    settings = read_settings(["--port", "9001"], environment)
    assert (settings.model_uri, settings.model_name, settings.port) == ("image:///models/smollm2", "smollm2", 9001)
    assert settings.aliases == ("a", "b")
    assert settings.max_total_tokens is None


def test_the_name_comes_from_the_location() -> None:
    assert read_settings(["--model-uri", "hf://org/Some-Model@abc"], {}).model_name == "Some-Model"


def test_torch_is_told_how_to_use_memory_unless_the_user_says_so() -> None:
    environment = {"LRU_CACHE_CAPACITY": "7"}
    prepare_torch(environment)
    own = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "THP_MEM_ALLOC_ENABLE": "1"}
    assert environment == {"LRU_CACHE_CAPACITY": "7", **own}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--model-uri or ZEROTIDE_MODEL_URI"),
        (["--model-uri", "/m", "--port", "70000"], "--port is '70000'; it must be a whole number from 0 to 65535"),
        (["--model-uri", "/m", "--max-batch", "many"], "--max-batch is 'many'"),
        (["--model-uri", "/m", "--log-level", "loud"], "--log-level is 'loud'"),
    ],
)
def test_senseless_settings_are_named(arguments: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_settings(arguments, {})


def test_the_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings(["--help"], {})
    page = capsys.readouterr().out
    for option in OPTIONS:
        assert f"--{option.flag}" in page
        assert option.variable in page


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("image:///models/smollm2", Path("/models/smollm2")),
        ("file:///data/a%20b", Path("/data/a b")),
        ("/mnt/model", Path("/mnt/model")),
        ("hf://org/name", HubModel("org/name", None)),
        ("hf://org/name@v1.0", HubModel("org/name", "v1.0")),
        ("hf://org/name@refs/pr/1", HubModel("org/name", "refs/pr/1")),
    ],
)
def test_locations(uri: str, location: Path | HubModel) -> None:
    assert parse_location(uri) == location


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://bucket/model", "scheme 's3'"),
        ("hf://name", "organisation/name"),
        ("hf://name@rev", "organisation/name"),
        ("hf://a/b/c", "organisation/name"),
        ("image://models/smollm2", "write image:///models/smollm2"),
    ],
)
def test_locations_that_are_none(uri: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_location(uri)


def test_a_folder_is_its_own_location(tmp_path: Path) -> None:
    assert resolve(tmp_path, Path("/nowhere")) == tmp_path


@pytest.mark.parametrize(
    ("content", "threads"), [("max 100000", 8), ("100000 100000", 1), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_threads_follow_the_quota(tmp_path: Path, content: str, threads: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cpu_threads(tmp_path, available=8) == threads


def test_threads_follow_the_quota_of_old_cgroups(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cpu_threads(tmp_path, available=8) == 2
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_threads(tmp_path, available=8) == 8


def test_without_a_quota_all_cpus_count(tmp_path: Path) -> None:
    assert cpu_threads(tmp_path, available=3) == 3


@pytest.mark.parametrize(
    ("name", "content", "limit"),
    [
        ("memory.max", "1073741824\n", 1 << 30),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("memory/memory.limit_in_bytes", "1048576\n", 1 << 20),
    ],
)
def test_the_memory_limit(tmp_path: Path, name: str, content: str, limit: int | None) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert memory_limit(tmp_path) == limit


def test_no_memory_limit_at_all(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


def test_the_cache_gets_what_the_limit_leaves() -> None:
    assert cache_tokens(OVERHEAD + 700 * 1000, weights=200 * 1000, per_token=1000) == 500
    assert cache_tokens(None, weights=1 << 40, per_token=1 << 20) == 2048
    assert cache_tokens(1, weights=0, per_token=1000, wanted=300_000) == 300


def test_a_second_copy_of_the_weights_only_where_it_leaves_a_cache() -> None:
    weights, per_token = 500 << 20, 46 << 10
    assert room_for_blocks(None, weights, per_token)
    assert room_for_blocks(2 << 30, weights, per_token)
    assert cache_tokens(2 << 30, weights, per_token) == ((2 << 30) - 2 * weights - OVERHEAD) // per_token
    assert not room_for_blocks(3 << 29, weights, per_token)
    assert cache_tokens(3 << 29, weights, per_token) == ((3 << 29) - weights - OVERHEAD) // per_token
    assert room_for_blocks((2 << 30) + (100 << 20), weights, per_token, wanted=600 << 20)
    assert not room_for_blocks(2 << 30, weights, per_token, wanted=600 << 20)


def test_a_limit_below_the_model_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory, match=r"needs at least \d+ MiB: raise resources\.limits\.memory"):
        cache_tokens(100 << 20, weights=500 << 20, per_token=1000)


def test_a_port_in_use_is_said_to_be() -> None:
    with open_port("127.0.0.1", 0) as taken, pytest.raises(ListenError, match="cannot listen on 127"):
        open_port("127.0.0.1", taken.getsockname()[1])


def test_all_addresses_are_both_families() -> None:
    import socket

    with open_port("", 0) as listening:
        port = listening.getsockname()[1]
        assert listening.family == (socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
        with socket.create_connection(("127.0.0.1", port)) as connected:
            assert connected.getpeername() == ("127.0.0.1", port)


def test_the_metrics_page() -> None:
    requests, errors = Counter("requests"), Counter("errors", "err")
    requests.add()
    requests.add()
    errors.add("overloaded")
    sizes = Histogram("sizes", "kind", buckets=(1.0, 2.5))
    for size in (0.5, 1.0, 2.0, 9.0):
        sizes.observe(size, "a")
    queue = Gauge("queue", lambda: [((), 3)])
    assert render([requests, errors, sizes, queue]).decode().splitlines() == [
        "# TYPE requests counter",
        "requests 2",
        "# TYPE errors counter",
        'errors{err="overloaded"} 1',
        "# TYPE sizes histogram",
        'sizes_bucket{kind="a",le="1"} 2',
        'sizes_bucket{kind="a",le="2.5"} 3',
        'sizes_bucket{kind="a",le="+Inf"} 4',
        'sizes_sum{kind="a"} 12.5',
        'sizes_count{kind="a"} 4',
        "# TYPE queue gauge",
        "queue 3",
    ]


@given(st.lists(st.floats(0, 1e6), max_size=30))
def test_buckets_grow_and_the_last_counts_all(sizes: list[float]) -> None:
    histogram = Histogram("h")
    for size in sizes:
        histogram.observe(size)
    counts = [int(line.split()[-1]) for line in histogram.lines() if "_bucket" in line]
    assert counts == sorted(counts)
    assert counts[-1] == len(sizes)
