"""One record is one line, whatever a user put into its values."""

from __future__ import annotations

import json
import logging

import pytest

from zerotide.kube.logs import Formatter


def record(**extra: str) -> logging.LogRecord:
    """Make a record with extra keys."""
    return logging.makeLogRecord({"msg": "pod released", "levelname": "INFO", "levelno": 20, "name": "x", **extra})


def test_json_lines_carry_their_keys() -> None:
    """Machines read the constant message and the keys."""
    line = json.loads(Formatter("json").format(record(pod="p1")))
    assert (line["message"], line["level"], line["logger"], line["pod"]) == ("pod released", "info", "x", "p1")
    assert line["time"].endswith("Z")


def test_text_lines_end_with_their_keys() -> None:
    """People read the same."""
    assert Formatter("text").format(record(pod="p1")).endswith(" info    pod released pod=p1")


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_can_forge_a_line_or_move_the_cursor(form: str) -> None:
    """Names and messages come from users."""
    line = Formatter(form).format(record(key="a\nforged\x1b[2J"))
    assert "\n" not in line and "\x1b" not in line and "forged" in line
