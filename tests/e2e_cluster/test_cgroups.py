"""Control groups of v2, where a container's root holds processes: a stand-in for the kernel keeps its rule."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from e2e.cluster import cgroups


class Kernel:
    """Groups below a folder, of which the root may not hand on controllers while it holds processes."""

    def __init__(self, root: Path, procs: str) -> None:
        self.root = root
        self.group(root, procs)

    def group(self, path: Path, procs: str = "") -> Path:
        """Make a group."""
        path.mkdir(exist_ok=True)
        (path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc")
        (path / "cgroup.subtree_control").write_text("")
        (path / "cgroup.procs").write_text(procs)
        return path

    def control(self, group: Path, change: str) -> None:
        """Hand a controller on, or no longer."""
        if change[0] == "+" and group == self.root and (group / "cgroup.procs").read_text().split():
            raise OSError(errno.EBUSY, "Device or resource busy")
        file = group / "cgroup.subtree_control"
        enabled = [name for name in file.read_text().split() if name != change[1:]]
        file.write_text(" ".join([*enabled, change[1:]] if change[0] == "+" else enabled))

    def place(self, pid: str, group: Path) -> None:
        """Move a process; the kernel's own threads stay."""
        if pid == "2":
            raise OSError(errno.EINVAL, "Invalid argument")
        for file in (self.root / "cgroup.procs", self.root / cgroups.ASIDE / "cgroup.procs"):
            if file.exists():
                file.write_text(" ".join(other for other in file.read_text().split() if other != pid))
        file = group / "cgroup.procs"
        file.write_text(" ".join([*(file.read_text().split() if file.exists() else []), pid]))


def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, procs: str) -> Kernel:
    """Return a kernel that the functions under test meet."""
    kernel = Kernel(tmp_path / "cgroup", procs)
    monkeypatch.setattr(cgroups, "_control", kernel.control)
    monkeypatch.setattr(cgroups, "_place", kernel.place)
    return kernel


def words(file: Path) -> list[str]:
    """Return the words of a file."""
    return file.read_text().split()


def test_a_container_root_is_emptied_and_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes wait aside until the last cluster is gone."""
    kernel = made(tmp_path, monkeypatch, "1 7 9")
    cgroups.delegate_root(kernel.root)
    assert words(kernel.root / "cgroup.subtree_control") == list(cgroups.V2_CONTROLLERS)
    assert words(kernel.root / "cgroup.procs") == []
    assert words(kernel.root / cgroups.ASIDE / "cgroup.procs") == ["1", "7", "9"]
    cluster = kernel.group(kernel.root / "zerotide.one")
    cgroups.delegate_root(kernel.root)
    cgroups.give_back(kernel.root)
    assert words(kernel.root / "cgroup.procs") == [], "a cluster is there still"
    for file in cluster.iterdir():
        file.unlink()
    cluster.rmdir()
    monkeypatch.setattr(Path, "rmdir", lambda path: [file.unlink() for file in path.iterdir()])
    cgroups.give_back(kernel.root)
    assert words(kernel.root / "cgroup.procs") == ["1", "7", "9"]
    assert words(kernel.root / "cgroup.subtree_control") == []


def test_the_machines_root_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold processes and hand controllers on; nothing is moved, and nothing taken back."""
    kernel = made(tmp_path, monkeypatch, "")
    cgroups.delegate_root(kernel.root)
    cgroups.give_back(kernel.root)
    assert not (kernel.root / cgroups.ASIDE).exists()
    assert words(kernel.root / "cgroup.subtree_control") == list(cgroups.V2_CONTROLLERS)


def test_what_cannot_be_moved_is_no_endless_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the kernel stays, and with it the refusal, which is told."""
    kernel = made(tmp_path, monkeypatch, "2")
    with pytest.raises(OSError, match="busy"):
        cgroups.delegate_root(kernel.root)
