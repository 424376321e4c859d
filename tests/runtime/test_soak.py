"""Clients that come and go for long: every answer is the one that it would have been alone, and memory stays flat."""

from __future__ import annotations

import os
import random
import statistics
import time
from pathlib import Path

import pytest

from tests.runtime.process import RuntimeProcess, folder_uri
from tests.runtime.soak import Case, Soak, make_cases

LENGTHS = [1, 2, 3, 5, 8, 20, 60, 200]
SOAK_SECONDS = float(os.environ.get("ZEROTIDE_SOAK_SECONDS", "1800"))
SLACK = 48 << 20  # what allocators keep or give back as it happens


def test_a_token_that_differs_must_be_as_likely() -> None:
    case = Case("x", {}, [1, 2], [{1: -0.5, 3: -0.5001}, {2: -0.1, 4: -3.0}])
    case.check([1, 2])
    case.check([3, 9])
    case.check([1], whole=False)
    with pytest.raises(AssertionError):
        case.check([1])
    with pytest.raises(AssertionError, match="token 1 is 4, not 2"):
        case.check([1, 4])
    with pytest.raises(AssertionError, match="token 0 is 5, not 1"):
        case.check([5, 2])


def test_a_short_storm(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), name="tiny") as server:
        server.ready()
        soak = Soak(server, make_cases(server, LENGTHS, random.Random(1)))
        server.torch_runs()
        # Caches grow at first; what grows with each new size of a batch or of a prompt goes on.
        memory = [soak.round(number, 4) for number in range(12)]
        before, after = memory[4], memory[-1]
        assert sum(soak.done.values()) == 8 * 48
        assert after < before + SLACK
        assert not server.metrics("tgi_batch_inference_failure")


@pytest.mark.soak
def test_a_long_storm(published: Path) -> None:
    with RuntimeProcess(folder_uri(published)) as server:
        server.ready()
        soak = Soak(server, make_cases(server, LENGTHS, random.Random(2)))
        server.torch_runs()
        memory: list[int] = []
        number, ends = 0, time.monotonic() + SOAK_SECONDS
        while time.monotonic() < ends or len(memory) < 8:
            memory.append(soak.round(number, 5))
            print(f"round {number}: {memory[-1] / 1e6:.0f} MB", flush=True)
            number += 1
        half = len(memory) // 2
        early, late = statistics.median(memory[half // 2 : half]), statistics.median(memory[half:])
        print(f"{sum(soak.done.values())} requests in {number} rounds, {early / 1e6:.0f} MB then {late / 1e6:.0f} MB")
        assert late < early + SLACK
        assert not server.metrics("tgi_batch_inference_failure")
