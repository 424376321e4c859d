"""Tools are pinned, found where they should be, and built from committed modules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.setup import debian
from e2e.tools import TOOLS, ToolError, build, folder_of
from e2e.tools.table import Tool, cached, find

ROOT = Path(__file__).resolve().parents[2]


def provide(folder: Path, tool: Tool) -> Path:
    """Put empty programs with a tool's names into a folder."""
    folder.mkdir(parents=True)
    for command in tool.commands:
        (folder / command).touch(mode=0o755)
    return folder


def test_a_given_folder_wins_over_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$ZEROTIDE_BIN is looked at first, flat or in the cache's own layout; an incomplete one is passed over."""
    tool = TOOLS["containerd"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inside_cache = provide(cached(tool), tool)
    assert find("containerd") == inside_cache
    monkeypatch.setenv("ZEROTIDE_BIN", str(tmp_path / "given"))
    assert find("containerd") == inside_cache
    given = provide(tmp_path / "given", tool)
    assert find("containerd") == given
    (given / "ctr").unlink()
    assert find("containerd") == inside_cache
    monkeypatch.setenv("ZEROTIDE_BIN", str(tmp_path / "other"))
    nested = provide(tmp_path / "other" / "containerd" / tool.version, tool)
    assert find("containerd") == nested


def test_a_folder_named_like_a_program_is_not_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$ZEROTIDE_BIN in the cache's own layout holds a folder `etcd`, which is searchable and so "executable"."""
    tool = TOOLS["etcd"]
    nested = provide(tmp_path / "etcd" / tool.version, tool)
    monkeypatch.setenv("ZEROTIDE_BIN", str(tmp_path))
    assert find("etcd") == nested


def test_a_missing_tool_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the version, the place and the command."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ZEROTIDE_BIN", raising=False)
    with pytest.raises(ToolError, match=r"etcd 3\.6\.16 is not in .*python3 -m e2e\.tools ensure etcd"):
        folder_of("etcd")


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: str(tool.name))
def test_the_committed_module_pins_the_version_of_the_table(tool: Tool) -> None:
    """go.mod and the table cannot drift apart, and every dependency has its checksum."""
    folder = ROOT / "e2e" / "tools" / tool.name
    module = (folder / "go.mod").read_text()
    assert re.search(rf"{re.escape(tool.module)} v{re.escape(tool.version)}( // indirect)?$", module, re.MULTILINE)
    assert f"{tool.module} v{tool.version} h1:" in (folder / "go.sum").read_text()


def test_the_compiler_is_told_the_version_and_builds_statically(tmp_path: Path) -> None:
    """Programs say their version, leave out what is not used, and hold no path of the machine."""
    command = build.compile_command("go", TOOLS["containerd"], "pkg", tmp_path / "x")
    assert "-trimpath" in command and command[-1] == "pkg"
    assert command[command.index("-tags") + 1] == "no_btrfs,no_devmapper,no_zfs,no_aufs"
    assert "version.Version=v2.4.2" in command[command.index("-ldflags") + 1]


def test_a_program_that_does_not_compile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half-built tool is left in its folder."""
    monkeypatch.setattr(build, "go_program", lambda say: "/bin/false")
    with pytest.raises(ToolError, match=r"etcd 3\.6\.16 could not be built"):
        build.build(TOOLS["etcd"], tmp_path / "etcd", say=lambda line: None)
    assert list((tmp_path / "etcd").iterdir()) == []


def test_the_machines_go_is_used_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old toolchain is passed over for one of the project's own."""
    for version, used in (("go1.99.1", True), ("go1.26", False), ("go1.19.9", False)):
        program = tmp_path / version / "go"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setattr(build, "_go_in", lambda home: "own")
        assert build.go_program() == (str(program) if used else "own")


def test_the_command_line_names_unknown_tools() -> None:
    """A typing error is answered with what there is."""
    command = [sys.executable, "-m", "e2e.tools", "ensure", "docker"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no tool is called 'docker'; there are: etcd, kubernetes" in done.stderr


def test_missing_packages_are_named_where_they_cannot_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt, or without root, the message says what to install and how."""
    wanted = {"frobnicator": "frobnicate", "coreutils": "ls"}
    assert debian.missing(wanted) == ["frobnicator"]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(debian.PackagesMissing, match="sudo apt-get install frobnicator"):
        debian.ensure(wanted)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(debian, "SBIN", "/nonexistent")
    with pytest.raises(debian.PackagesMissing, match="no apt-get"):
        debian.ensure(wanted)


INSTALLS = """
import os, pathlib, shutil, sys
from e2e.setup import debian

def apt(arguments, environment):
    print(arguments[0], flush=True)
    if arguments[0] == "install":
        sys.stdin.readline()
        pathlib.Path(sys.argv[1]).touch()

os.geteuid, shutil.which, debian._apt = lambda: 0, lambda *_, **__: "/usr/bin/apt-get", apt
debian.ensure({"frobnicator": sys.argv[1]}, lambda text: None)
print("there", flush=True)
"""


def installing(folder: Path) -> subprocess.Popen[str]:
    """Start a process that installs the file `frobnicate` in a folder, once it is given a line."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", INSTALLS, str(folder / "frobnicate")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_one_process_at_a_time_installs(tmp_path: Path) -> None:
    """Of two that miss the same package one installs it; the other waits, looks again and has nothing to do."""
    with installing(tmp_path) as one:
        assert one.stdout is not None
        assert [one.stdout.readline(), one.stdout.readline()] == ["update\n", "install\n"]
        with installing(tmp_path) as two:
            while not waits_for_a_lock(two.pid):
                assert two.poll() is None
                time.sleep(0.01)
            assert one.communicate("\n")[0] == "there\n"
            assert two.communicate()[0] == "there\n"


def waits_for_a_lock(pid: int) -> bool:
    """Tell what the kernel says of a process that asked for a lock which another one has."""
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())
