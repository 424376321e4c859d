"""Run all checks and tests in stages, show where the time went, and stop with the first failure's code.

The two stages on clusters mostly wait, for pods and for what must not happen: they run side by side, each on clusters
of its own. Many tests talk to real processes and clusters on two noisy cores: one that fails is run once more, by
itself, and named as flaky when it passes then (hypothesis replays what it found, so a broken law fails again). What
needs root on a Debian-like machine (the local cluster) is left out, loudly, where that is missing and no KUBECONFIG
names one, and with KUBECONFIG what needs a cluster of this machine all the same; with ZEROTIDE_REQUIRE_ALL=1 that is an
error instead. What needs a GPU is left out where there is none, and said, but never an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from e2e.setup.lanes import Lane, side_by_side

ROOT = Path(__file__).resolve().parents[2]
DEV = str(ROOT / ".venv/bin/python")
RUNTIME = str(ROOT / ".venv-runtime/bin/python")
SECOND_TRY = ("unit", "runtime", "integration", "e2e")
MOST_FLAKY = 8
TESTS_FAILED = 1  # pytest's exit code for that and nothing worse
LEFT_OUT = ROOT / ".build" / "left-out"
SHARED = ["-n", "auto", "--dist", "loadfile"]  # a file's tests have its fixtures in common
NO_GPU = "no GPU here"  # as e2e/marks.py says


def cluster_possible() -> str:
    """Return why no cluster can be had here; empty when one can."""
    if os.environ.get("KUBECONFIG"):
        return ""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("apt-get") is None:
        return "no apt-get: the local cluster needs a Debian-like machine"
    return ""


def stages(with_cluster: bool) -> list[list[Lane]]:
    """List what to run, in order; cheap and telling things first, and together what runs side by side."""
    pytest = ["-m", "pytest", "--durations=10"]
    python = sys.executable
    apart = ["--ignore=tests/runtime", "--ignore=tests/repository"]  # another environment; part of the checks
    listed = [
        [Lane("environments", [python, str(ROOT / "e2e/setup/venvs.py")])],
        [Lane("checks", ["make", "-s", "check"])],
        [Lane("unit", [DEV, *pytest, "-q", *SHARED, "tests", "-m", "not cluster and not soak", *apart])],
        [Lane("runtime", [RUNTIME, *pytest, "-q", "tests/runtime", "-m", "not soak"])],
    ]
    if with_cluster:
        marks = ["-v", "-m", "cluster and not soak"]  # a line for each test: two lanes' dots could not be told apart
        own = {"ZEROTIDE_TEST_CLUSTER": f"{os.environ.get('ZEROTIDE_TEST_CLUSTER') or 'zerotide-test'}-parts"}
        parts = Lane("integration", [DEV, *pytest, "tests", *marks, "--ignore=tests/runtime"], own)
        whole = Lane("e2e", [DEV, *pytest, "e2e", *marks])
        # A cluster that is given is one, and has one Zerotide.
        listed += [[parts], [whole]] if os.environ.get("KUBECONFIG") else [[parts, whole]]
    return listed


def run(lanes: list[Lane]) -> int:
    """Run what goes side by side and return the first bad code; failed tests get one more try, with nothing beside."""
    lanes = [remembering(lane) if lane.name in SECOND_TRY else lane for lane in lanes]
    codes = [alone(lanes[0])] if len(lanes) == 1 else side_by_side(lanes, ROOT)
    codes = [again(lane, code) if lane.name in SECOND_TRY else code for lane, code in zip(lanes, codes, strict=True)]
    return next((code for code in codes if code != 0), 0)


def alone(lane: Lane) -> int:
    """Run a lane that has this process's terminal to itself; return its code."""
    return subprocess.run(lane.command, cwd=ROOT, env={**os.environ, **lane.environment}).returncode


def memory(lane: Lane) -> Path:
    """Return the folder where pytest keeps what failed in a lane."""
    return ROOT / ".build" / f"pytest-{lane.name}"


def remembering(lane: Lane) -> Lane:
    """Return the lane with a memory of its own, an empty one, for what fails in it."""
    shutil.rmtree(memory(lane), ignore_errors=True)
    return replace(lane, command=[*lane.command, "-o", f"cache_dir={memory(lane)}"])


def again(lane: Lane, code: int) -> int:
    """Return the code of a second try of the tests that failed, where there are few; else the first one's."""
    if code != TESTS_FAILED:
        return code
    failed = sorted(json.loads((memory(lane) / "v/cache/lastfailed").read_text()))
    if len(failed) > MOST_FLAKY:
        return code
    print("\nonce more, by themselves:\n  " + "\n  ".join(failed), flush=True)
    code = alone(replace(lane, command=[*lane.command, "--last-failed"]))
    if code == 0:
        print("\nFLAKY, passed at the second try only:\n  " + "\n  ".join(failed), flush=True)
    return code


def main() -> int:
    """Run every stage; return 0 only when all passed."""
    why_not = cluster_possible()
    if why_not and os.environ.get("ZEROTIDE_REQUIRE_ALL"):
        print(f"make test: everything is required, but there is no cluster: {why_not}", file=sys.stderr)
        return 1
    LEFT_OUT.parent.mkdir(exist_ok=True)
    LEFT_OUT.write_text("")
    os.environ["ZEROTIDE_LEFT_OUT"] = str(LEFT_OUT)
    took: list[tuple[str, float]] = []
    code = 0
    for lanes in stages(not why_not):
        name = " beside ".join(lane.name for lane in lanes)
        print(f"\n=== {name}", flush=True)
        started = time.monotonic()
        code = run(lanes)
        took.append((name, time.monotonic() - started))
        if code != 0:
            print(f"\nmake test: stage `{name}` failed with code {code}", file=sys.stderr)
            break
    print("\nwhere the time went: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took), flush=True)
    left = [line.partition("\t") for line in sorted(set(LEFT_OUT.read_text().splitlines()))]
    clusters = [name for reason, _, name in left if reason != NO_GPU]
    for banner in (left_out(why_not, clusters), without_gpu(sum(reason == NO_GPU for reason, _, _ in left))):
        if banner:
            print(banner, file=sys.stderr)
    return code or int(bool(left_out(why_not, clusters) and os.environ.get("ZEROTIDE_REQUIRE_ALL")))


def without_gpu(count: int) -> str:
    """Return the line that says how many tests need a GPU; empty where none was left out."""
    return f"\nLEFT OUT: {count} tests of the runtime that need a GPU (tests/runtime/test_cuda.py)." if count else ""


def left_out(why_not: str, tests: list[str]) -> str:
    """Return the banner that says what was left out: everything on a cluster, or these tests; empty where nothing."""
    if why_not:
        lines = [f"LEFT OUT: every test on a real cluster ({why_not}). Set KUBECONFIG, or run as root on Debian."]
    elif tests:
        lines = [f"LEFT OUT: {len(tests)} tests that need a cluster of this machine. Run as root on Debian.", *tests]
    else:
        return ""
    rule = "!" * max(map(len, lines))
    return "\n".join(["", rule, *lines, rule])


if __name__ == "__main__":
    raise SystemExit(main())
