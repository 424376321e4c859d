"""The command line itself: help, usage errors, exit codes, completion."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerotide import __version__
from zerotide.cli import keys, main
from zerotide.cli.completion import script
from zerotide.cli.errors import (
    CliError,
    Denied,
    GatewayError,
    Missing,
    StartFailed,
    TimedOut,
    UsageError,
    from_kube,
)
from zerotide.kube import (
    Conflict,
    ConnectionFailed,
    CredentialsError,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    Unauthorized,
)

COMMANDS = """
list get deploy wait call logs url wake sleep suspend resume scale key bill plan bench doctor version completion
"""


def parsers(parser: argparse.ArgumentParser, name: str = "zerotide") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command's parser with its name."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for word, inner in action.choices.items():
            yield from parsers(inner, f"{name} {word}")
    if not below:
        yield name, parser


def test_each_failure_has_the_exit_code_of_the_contract() -> None:
    """Scripts go by it, and the help lists it; the difference that `bill verify` finds is the command's own answer."""
    codes = {CliError: 1, GatewayError: 1, UsageError: 2, Missing: 3, Denied: 4, TimedOut: 5, StartFailed: 6}
    assert {kind: kind("why").exit_code for kind in codes} == codes
    assert main.EPILOG.splitlines()[1].strip() == (
        "0 ok · 1 error · 2 usage · 3 not found · 4 denied · 5 timed out · 6 start failed · 7 verify found a difference"
    )


def test_every_command_of_the_contract_is_there() -> None:
    """In the order in which people read them."""
    words = [name.split()[1] for name, _ in parsers(main.build())]
    assert sorted(dict.fromkeys(words)) == sorted(COMMANDS.split())


@pytest.mark.parametrize(("name", "parser"), list(parsers(main.build())))
def test_every_command_explains_itself(name: str, parser: argparse.ArgumentParser) -> None:
    """Help with an example that parses, the common options, and a word about every argument."""
    assert parser.epilog and name in parser.epilog, "no example"
    options = {option for action in parser._actions for option in action.option_strings}
    assert {"-n", "-A", "--json", "--context"} <= options
    for action in parser._actions:
        assert action.help, action.dest
    assert all(len(line) <= 120 for line in parser.format_help().splitlines())


def test_what_a_command_does_not_know_is_refused_by_that_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.build().parse_args(["bill", "explain", "smollm2", "--consumers", "3"])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("usage: zerotide bill explain ")
    assert said.endswith(
        "zerotide bill explain: error: unrecognized arguments: --consumers 3 "
        "(`zerotide bill explain --help` lists what there is)\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "list extra",
        "scale m many",
        "scale m -1",
        "wait m --for happy",
        "wait m --timeout soon",
        "bill cost --since yesterday",
        "bill cost --from 2026-13-01",
        "key create k --expires forever",
        "deploy m --engine ollama",
        "completion fish",
    ],
)
def test_usage_errors(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, before anything is opened."""
    with pytest.raises(SystemExit) as error:
        main.main(line.split())
    assert error.value.code == 2
    assert "usage: zerotide" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (NotFound(404, "NotFound", 'pods "x" not found'), Missing, 'pods "x" not found'),
        (NotFound(404, "NotFound", "the server could not find the requested resource"), Missing, "install its chart"),
        (Unauthorized(401, "Unauthorized", "no"), Denied, "Log in again"),
        (Forbidden(403, "Forbidden", "no"), Denied, "administrator"),
        (Invalid(422, "Invalid", "spec.x: bad"), CliError, "the cluster refuses it: spec.x: bad"),
        (Conflict(409, "Conflict", "no"), CliError, "answered 409"),
        (CredentialsError("no usable kubeconfig"), CliError, "no usable kubeconfig"),
        (ConnectionFailed("refused"), CliError, "Is KUBECONFIG the right one"),
    ],
)
def test_failures_of_the_cluster(error: KubeError, kind: type[CliError], words: str) -> None:
    """Each becomes a sentence with what to do, and an exit code."""
    failure = from_kube(error)
    assert type(failure) is kind and words in str(failure)


def test_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kubeconfig that is not there is said so, not traced."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main.main(["list"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("zerotide: no usable kubeconfig at") and "Traceback" not in err


def test_version_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """With --client it asks none."""
    assert main.main(["version", "--client"]) == 0
    assert capsys.readouterr().out == f"Client:  {__version__}\n"


def test_bad_names_of_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before a secret is made for them."""
    with pytest.raises(CliError, match="no name of a key"):
        keys.build("Not_A_Name", bytes(32), 0)
    with pytest.raises(CliError, match="no name of an endpoint"):
        keys.build("k", bytes(32), 0, endpoints=["Nope"])


def test_completion_is_valid_and_complete(tmp_path: Path) -> None:
    """bash accepts the script and finds commands, second words, options and, where one is named, endpoints."""
    fake = tmp_path / "zerotide"
    fake.write_text("#!/bin/sh\n[ \"$*\" = 'list --quiet' ] && echo smollm2\n")
    fake.chmod(0o755)

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        call = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _zerotide; echo ${{COMPREPLY[@]}}"
        run = f"{script(main.build())}\n{call}"
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["bash", "-c", run], env=path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert complete("zerotide wa") == ["wait", "wake"]
    assert complete("zerotide key ") == ["create", "list", "revoke"]
    assert "--expires" in complete("zerotide key create --e")
    assert complete("zerotide call smo") == ["smollm2"]
    assert "--max-tokens" in complete("zerotide call --max")
