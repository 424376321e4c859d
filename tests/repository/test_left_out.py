"""What is not run is said: by pytest at the end of its session, and by `make test` at the end of all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e import marks
from e2e.setup import testrun
from e2e.setup.testrun import left_out, without_gpu

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pytest

@pytest.fixture
def operator_cluster(local_cluster):
    return local_cluster

def test_by_the_kubeconfig(cluster):
    pass

def test_by_the_machine(local_cluster):
    pass

def test_by_a_cluster_of_its_own(operator_cluster):
    pass

def test_by_nothing():
    pass

@pytest.mark.gpu
def test_by_a_gpu():
    pass
"""


def session(
    folder: Path, user: int, *flags: str, device: Path | None = None, **environment: str
) -> tuple[str, list[str]]:
    """Run a small suite as that user would; return what pytest said and what was written down as left out."""
    (folder / "test_suite.py").write_text(SUITE)
    named = folder / "left-out"
    named.write_text("")
    code = (
        f"import os, sys, pytest, e2e.marks; e2e.marks.DEVICES = ({str(device)!r},); "
        f"os.geteuid = lambda: {user}; sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", "-p", "e2e.marks", *flags]
    done = subprocess.run(
        [sys.executable, "-c", code, *options, "--import-mode=importlib", str(folder / "test_suite.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ZEROTIDE_LEFT_OUT": str(named), **environment},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    return done.stdout + done.stderr, named.read_text().splitlines()


@pytest.mark.parametrize("user", [0, 1000])
def test_with_another_cluster_only_what_needs_this_machine_is_left_out(tmp_path: Path, user: int) -> None:
    told, named = session(tmp_path, user, "--collect-only", "-q", "-m", "cluster", KUBECONFIG="/dev/null")
    lost = ["test_suite.py::test_by_the_machine", "test_suite.py::test_by_a_cluster_of_its_own"]
    assert named == ([f"{marks.NO_ROOT}\t{name}" for name in lost] if user else [])
    assert ("LEFT OUT" in told) == bool(user)
    listed = [line for line in told.partition("!!")[0].splitlines() if "::" in line]
    assert listed == ["test_suite.py::test_by_the_kubeconfig", *([] if user else lost)]


def test_what_was_not_asked_for_is_not_left_out(tmp_path: Path) -> None:
    told, named = session(tmp_path, 1000, "-q", "-m", "not cluster and not gpu", KUBECONFIG="/dev/null")
    assert "1 passed" in told and "LEFT OUT" not in told and named == []


def test_what_needs_a_gpu_is_left_out_where_there_is_none(tmp_path: Path) -> None:
    device = tmp_path / "device"
    told, named = session(tmp_path, 0, "-q", "-m", "gpu", device=device)
    assert f"LEFT OUT: {marks.NO_GPU}" in told
    assert named == [f"{marks.NO_GPU}\ttest_suite.py::test_by_a_gpu"]
    device.touch()
    told, named = session(tmp_path, 0, "-q", "-m", "gpu", device=device)
    assert "1 passed" in told and "LEFT OUT" not in told and named == []
    assert testrun.NO_GPU == marks.NO_GPU
    assert "3 tests of the runtime that need a GPU" in without_gpu(3) and without_gpu(0) == ""


def test_the_banner_counts_and_names() -> None:
    assert left_out("", []) == ""
    assert "every test on a real cluster (not root)" in left_out("not root", [])
    banner = left_out("", ["a.py::one", "a.py::two"])
    assert "2 tests that need a cluster of this machine" in banner and "\na.py::two\n" in banner
