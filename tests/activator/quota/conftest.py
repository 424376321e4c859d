"""Activators that share the budgets of one ledger; each file of tests has a `ledger` of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.activator.quota.ledger import Ledger
from tests.activator.replica import Replica
from tests.activator.stack import Stack


@pytest.fixture
async def activators(ledger: Ledger, replica: Replica, tmp_path: Path) -> AsyncIterator[list[Stack]]:
    """Run two activators in front of one replica."""
    async with AsyncExitStack() as stacks:
        found = []
        for number in range(2):
            stack = Stack(tmp_path / f"usage-{number}", name=f"act-{number}", exporter=ledger.exporter)
            await stacks.enter_async_context(stack)
            await stack.awake(replica)
            found.append(stack)
        yield found
