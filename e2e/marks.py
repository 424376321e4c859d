"""Mark every test that uses the real cluster, so that `-m cluster` and `-m "not cluster"` split the suite."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the `cluster` mark to whatever asks for the cluster, directly or through another fixture."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


# The fixtures of the real cluster, for every test that asks for them.
pytest_plugins = ["e2e.fixtures"]
