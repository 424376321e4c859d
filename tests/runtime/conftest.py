"""Fixtures of the runtime's tests; run them with .venv-runtime, which has torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.models import make_tiny, smollm2
from tests.runtime.process import RuntimeProcess, folder_uri

# Two threads on two shared cores wait for each other most of the time.
os.environ.update(OMP_NUM_THREADS="1", ZEROTIDE_THREADS="1")


@pytest.fixture(scope="session")
def published() -> Path:
    """Return the folder of SmolLM2-135M-Instruct, published."""
    return smollm2()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random model whose answers only end by length."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def server(published: Path) -> Iterator[RuntimeProcess]:
    """Return a server with SmolLM2, ready."""
    with RuntimeProcess(folder_uri(published), "--aliases", "HuggingFaceTB/SmolLM2-135M-Instruct") as process:
        yield process.ready()


@pytest.fixture(scope="session")
def tiny_server(tiny: Path) -> Iterator[RuntimeProcess]:
    """Return a server with the tiny model, ready; at most two requests in hand."""
    with RuntimeProcess(folder_uri(tiny), "--max-concurrent-requests", "2", name="tiny") as process:
        yield process.ready()
