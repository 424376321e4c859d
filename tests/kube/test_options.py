"""Flags, the variables behind them, and what is said of values that make no sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from zerotide.kube.options import Flags, Given


class Refused(Exception):
    """What this process raises."""


def read(*arguments: str, environment: Mapping[str, str] | None = None) -> Given:
    """Read one flag of each kind."""
    flags = Flags("zerotide.example", "Do things.", environment or {}, Refused)
    for name, default in (("port", "8080"), ("wait", "10s"), ("folder", ""), ("table", "{}"), ("plain", "a")):
        flags.add(name, default, f"what {name} is for")
    flags.add("who", "nobody", "its own variable", "POD_NAME")
    return flags.read(arguments)


def test_flags_beat_variables_which_beat_defaults() -> None:
    environment = {"ZEROTIDE_PORT": "1", "POD_NAME": "p-0", "ZEROTIDE_FOLDER": "/a", "ZEROTIDE_WAIT": ""}
    given = read("--port", "2", environment=environment)
    assert (given.number("port"), given.text("who"), given.path("folder")) == (2, "p-0", Path("/a"))
    assert given.duration_us("wait") == 10_000_000, "an empty variable is none"
    assert read().path("folder") is None
    assert read("--plain", "", environment={"ZEROTIDE_PLAIN": "b"}).text("plain") == "", "an empty flag is given"
    assert (given.log_format, given.log_level) == ("json", "info")


def test_json_has_its_kind() -> None:
    assert read("--table", '{"a": 1}').json("table", dict, {}) == {"a": 1}
    assert read("--table", " ").json("table", list, None) is None


@pytest.mark.parametrize(
    ("flag", "value", "get", "message"),
    [
        ("port", "x", lambda given: given.number("port"), "--port 'x': give a number from 0 to 65535"),
        ("port", "-1", lambda given: given.number("port"), "--port '-1': give a number"),
        ("port", "65536", lambda given: given.number("port"), "--port '65536': give a number"),
        ("port", "²", lambda given: given.number("port"), "--port '²': give a number"),
        ("port", "3", lambda given: given.number("port", 9, least=4), "--port '3': give a number from 4 to 9"),
        ("wait", "soon", lambda given: given.duration_us("wait"), "--wait: "),
        ("table", "{", lambda given: given.json("table", dict, {}), "--table must be JSON: "),
        ("table", "[]", lambda given: given.json("table", dict, {}), "--table must be a JSON object, not '[]'"),
        ("table", "{}", lambda given: given.json("table", list, []), "--table must be a JSON list, not '{}'"),
        ("log-format", "xml", lambda given: given.log_format, "--log-format 'xml': choose json or text"),
        (
            "log-level",
            "loud",
            lambda given: given.log_level,
            "--log-level 'loud': choose debug, info, warning or error",
        ),
    ],
)
def test_nonsense_is_refused_by_the_flag_s_name(
    flag: str, value: str, get: Callable[[Given], Any], message: str
) -> None:
    with pytest.raises(Refused) as caught:
        get(read(f"--{flag}={value}"))
    assert str(caught.value).startswith(message)


def test_help_names_each_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--help")
    told = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and told.startswith("usage: python -m zerotide.example")
    assert "what port is for [ZEROTIDE_PORT] (default: 8080)" in told
    assert "its own variable [POD_NAME] (default: nobody)" in told
