"""docs/threat-model.md names tests, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NOT_BUILT = "not built"
LINES = 35
_TEST = re.compile(r"`((?:tests|e2e)/[^`:]+\.py)::(test_\w+)`")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, its head left out."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@cache
def named_in(path: str) -> frozenset[str]:
    """Return the names of the tests of a file; none where there is no such file."""
    file = ROOT / path
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_test_that_is_named_exists() -> None:
    """A test that is renamed or removed takes its row along."""
    named = _TEST.findall(PAGE)
    assert len(named) == PAGE.count("::") > 80
    assert [f"{path}::{name}" for path, name in named if name not in named_in(path)] == []


def test_every_row_has_a_test_or_says_that_it_is_not_built() -> None:
    """Never neither, and never both: what is partly built has two rows."""
    for heading in ("Threats", "The checklist"):
        for row in rows(heading):
            assert bool(_TEST.search(row[-1])) != (row[-1] == NOT_BUILT), row


def test_every_threat_is_of_a_kind() -> None:
    """Of STRIDE's six."""
    kinds = [set(row[1].replace(",", "").split()) for row in rows("Threats")]
    assert all(kind and kind <= set("STRIDE") for kind in kinds)
    assert set.union(*kinds) == set("STRIDE")


def test_every_line_of_the_checklist_is_there() -> None:
    """In order, each once or more."""
    lines = [int(row[0]) for row in rows("The checklist")]
    assert lines == sorted(lines)
    assert set(lines) == set(range(1, LINES + 1))
