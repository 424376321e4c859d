"""Mark every test that uses a real cluster, so that `-m cluster` and `-m "not cluster"` split the suite.

A cluster of this machine needs root, and tests marked `gpu` a GPU. Without it, they are left out, but never silently:
they are named at the end of the session, and in the file that $ZEROTIDE_LEFT_OUT names, after the reason and a tab.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The fixtures of the real cluster, for every test that asks for them.
pytest_plugins = ["e2e.fixtures"]

LOCAL = {"local_cluster", "operator_cluster", "exporter_cluster"}
"""The fixtures that are clusters of this machine."""
DEVICES = ("/dev/nvidiactl", "/dev/dxg")
NO_ROOT, NO_GPU = "not root, and these need a cluster of this machine", "no GPU here"
LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()

# A busy machine makes no law untrue: only what an example proves counts, not how long it took.
settings.register_profile("steady", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark what asks for a cluster, directly or through another fixture; leave out what cannot have it here."""
    for item in items:
        if (LOCAL | {"cluster"}) & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)
    yield
    reasons = {item: reason for item in items if (reason := why_not(item))}
    if reasons:
        config.hook.pytest_deselected(items=list(reasons))
        items[:] = [item for item in items if item not in reasons]
    named = config.stash[LEFT_OUT] = {}
    for item, reason in reasons.items():
        named.setdefault(reason, []).append(item.nodeid)
    if named and (path := os.environ.get("ZEROTIDE_LEFT_OUT")):
        with Path(path).open("a") as file:
            file.writelines(f"{reason}\t{name}\n" for reason, names in named.items() for name in names)


def why_not(item: pytest.Item) -> str:
    """Return why a test cannot run on this machine; empty where it can."""
    if item.get_closest_marker("gpu") and not any(Path(device).exists() for device in DEVICES):
        return NO_GPU
    return NO_ROOT if os.geteuid() != 0 and needs_local(item) else ""


def needs_local(item: pytest.Item) -> bool:
    """Tell whether a test needs a cluster of this machine, whatever other cluster is given."""
    # The shared fixture `cluster` asks for the local one only where none is given.
    return bool(LOCAL & set(getattr(item, "fixturenames", ())))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left out."""
    for reason, names in config.stash.get(LEFT_OUT, {}).items():
        terminalreporter.section(f"LEFT OUT: {reason}", sep="!")
        for name in names:
            terminalreporter.write_line(name)
