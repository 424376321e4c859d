"""Clients in processes of their own, and the scene in which all of them ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.activator.clients.children import INSTALLED, TGI_CLIENT, TGI_PYTHON, Child, node, running
from tests.activator.clients.scene import Scene
from tests.activator.replica import Replica
from tests.activator.stack import Stack


@pytest.fixture(scope="session")
def tgi() -> Iterator[Child]:
    """Run TGI's own client."""
    with running(str(TGI_PYTHON), "-c", TGI_CLIENT) as child:
        yield child


@pytest.fixture(scope="session")
def js() -> Iterator[Child]:
    """Run huggingface.js."""
    program = node()
    with running(program, "client.mjs", cwd=INSTALLED) as child:
        yield child


@pytest.fixture
async def scene(stack: Stack, replica: Replica) -> AsyncIterator[Scene]:
    """Have an activator without endpoints, and a key for each client."""
    scene = Scene(stack, replica)
    yield scene
    for task in scene.others:
        task.cancel()
    await asyncio.gather(*scene.others, return_exceptions=True)
    if replica.hold is not None:
        replica.hold.set()
