"""The parts of `make up` that need no cluster; the whole is run by its own test on a real one."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.tour.script import TOUR, Run
from e2e.up import talk, target
from e2e.up.command import how_to_go_on, run
from e2e.up.errors import StepFailed
from e2e.up.progress import Progress, capture, show
from e2e.up.target import Target, choose, shell_exports

LOCAL = Cluster("no-such-cluster")


def test_whose_cluster() -> None:
    """KUBECONFIG names another one, unless it names our own, as after `eval "$(make -s env)"`."""
    assert choose({}).local is not None
    assert choose({"KUBECONFIG": str(Cluster().kubeconfig)}).local is not None
    given = choose({"KUBECONFIG": "/home/me/.kube/config"})
    assert (given.local, given.kubeconfig, given.gateway) == (None, "/home/me/.kube/config", "")
    other = choose({"ZEROTIDE_CLUSTER": "second"}).local
    assert other is not None and other.name == "second"


def test_exports_survive_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluated twice, PATH has our folder once; paths with blanks and quotes stay whole."""
    root = tmp_path / "it's here"
    monkeypatch.setattr(target, "ROOT", root)
    given = Target(None, "/tmp/a b/kube'config")
    given.state.mkdir(parents=True)
    given.key_file.write_text("zt_me_key\n")
    script = f'{shell_exports(given)}\n{shell_exports(given)}\nprintf "%s\\n" "$PATH" "$KUBECONFIG" "$ZEROTIDE_API_KEY"'
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    path, kubeconfig, key = done.stdout.splitlines()
    assert path.split(":") == [str(given.state / "bin"), "/usr/bin", "/bin"]
    assert (kubeconfig, key) == ("/tmp/a b/kube'config", "zt_me_key")


def test_programs_see_this_cluster_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's shell says of another installation does not leak in."""
    monkeypatch.setenv("ZEROTIDE_GATEWAY", "http://somewhere.else")
    monkeypatch.setenv("ZEROTIDE_API_KEY", "zt_other_key")
    environment = Target(None, "/k").environment()
    assert environment["KUBECONFIG"] == "/k"
    assert "ZEROTIDE_GATEWAY" not in environment
    assert environment.get("ZEROTIDE_API_KEY") != "zt_other_key"


@pytest.mark.parametrize(("text", "ms"), [("0s", 0), ("250ms", 250), ("1m2s30ms", 62_030), ("1h", 3_600_000)])
def test_milliseconds(text: str, ms: int) -> None:
    """As the API writes durations."""
    assert talk.milliseconds(text) == ms


def test_the_table_of_a_wake() -> None:
    """Stages with bars, and their sum."""
    stages = [{"name": "provision", "duration": "500ms"}, {"name": "load", "duration": "1s"}]
    assert talk.wake_table({"stages": stages, "total": "1s500ms"}) == [
        "provision     0.500 s  ████████████",
        "load          1.000 s  ████████████████████████",
        "total         1.500 s",
    ]


def test_progress_tells_where_the_time_went() -> None:
    """Steps are numbered, and the longest comes first in the summary."""
    lines: list[str] = []
    progress = Progress(2, lines.append)
    with progress.step("short", "A short step"):
        progress.say("  a detail ")
    with progress.step("long", "A long step"):
        pass
    progress.took["long"] = 5.0
    assert lines[:2] == ["[1/2] A short step", "      a detail"] and lines[3] == "[2/2] A long step"
    assert progress.summary().startswith("5 s: long 5.0 s, short 0.")


def test_a_failing_program_is_quoted() -> None:
    """With what it said."""
    environment = dict(os.environ)
    assert capture(["echo", "fine"], environment) == "fine\n"
    with pytest.raises(StepFailed, match="no such thing"):
        capture(["sh", "-c", "echo no such thing >&2; exit 3"], environment)
    with pytest.raises(StepFailed, match="its output is above"):
        show(["false"], environment)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown word does nothing."""
    assert run(["upp"]) == 2
    assert "usage" in capsys.readouterr().err


def test_how_to_go_on_without_a_gateway() -> None:
    """On a cluster of the user's own, a port forward comes first."""
    text = how_to_go_on(Target(None, "/k"))
    assert "kubectl port-forward -n zerotide-system service/zerotide-gateway 8080:80" in text
    assert "http://127.0.0.1:8080/endpoints/demo/smollm2" in text


def test_another_image_for_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster of the user's own, the example takes the image that the environment names."""
    applied: list[str] = []
    monkeypatch.setenv("ZEROTIDE_RUNTIME_IMAGE", "r.example/smollm2:1")
    monkeypatch.setattr(talk, "capture", lambda command, environment, stdin="": applied.append(stdin))
    talk.apply_example(Target(None, "/k"))
    assert "    image: r.example/smollm2:1\n" in applied[0] and "zerotide/runtime-smollm2:dev" not in applied[0]


def test_the_tour_shows_every_command() -> None:
    """The page has an example of each command of the contract, and the script's lines are in it."""
    lines = "\n".join(step.line for step in TOUR if isinstance(step, Run))
    page = (target.ROOT / "docs/tour.md").read_text()
    commands = "list get deploy wait call logs url wake sleep suspend resume scale key bill doctor version completion"
    for command in commands.split():
        assert f"zerotide {command}" in lines, command
        assert f"zerotide {command}" in page, command
    for command in ("kubectl get iep", "kubectl describe iep", "kubectl explain iep.spec.scaling", "helm test"):
        assert command in page, command
    assert str(target.ROOT) not in page


def test_commands_of_the_tour_are_valid_shell() -> None:
    """A quote that is missing would show only at the end of a long run."""
    for step in TOUR:
        if isinstance(step, Run):
            done = subprocess.run(["bash", "-n", "-c", step.line], capture_output=True, text=True)
            assert done.returncode == 0, f"{shlex.quote(step.line)}: {done.stderr}"
