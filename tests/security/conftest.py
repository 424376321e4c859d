"""The security tests use the activator's stack and replica."""

from tests.activator.conftest import pytest_asyncio_loop_factories, replica, stack

__all__ = ["pytest_asyncio_loop_factories", "replica", "stack"]
