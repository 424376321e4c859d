"""The tree keeps the shape that imports, images and readers rely on."""

from __future__ import annotations

import ast
import operator
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_operator_is_a_source_root_and_never_a_package() -> None:
    """A package of that name would shadow the standard library and break every import."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert operator.__spec__.origin != str(ROOT / "operator")


def test_nothing_in_the_source_root_is_named_like_a_standard_module() -> None:
    """Files in operator/ are importable by their bare name."""
    names = {path.stem for path in (ROOT / "operator").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not names & set(sys.stdlib_module_names)


def test_top_level_holds_only_the_agreed_folders() -> None:
    """A reader finds every role at its fixed place."""
    agreed = {"operator", "crds", "charts", "runtime-image", "e2e", "tests", "docs", "examples", "bench"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders <= agreed | {"build", "dist"}


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    """A file is about one idea; what has grown beyond 20 kB is about several."""
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in ROOT.glob("[a-z]*/**/*.py")}
    assert {name: size for name, size in sizes.items() if size > 20 * 1024} == {}


def test_lock_files_name_no_index() -> None:
    """The locks are checked by hash, wherever the files come from."""
    for lock in (*ROOT.glob("*/requirements*.txt"), *ROOT.glob("*/requirements*.in")):
        assert "index-url" not in lock.read_text() and "://" not in lock.read_text(), lock


def test_the_type_checker_sees_every_file() -> None:
    """What one environment leaves out, the other checks: the line of the Makefile that `make check` runs for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    (line,) = re.findall(r"RUNTIME\)/mypy (.+)", (ROOT / "Makefile").read_text())
    seen = {path for folder in project["files"] for path in (ROOT / folder).rglob("*.py")}
    left_out = {path for path in seen if re.search(project["exclude"][0], str(path.relative_to(ROOT)))}
    torch = {path for word in line.split() for place in ROOT.glob(word) for path in (place, *place.rglob("*.py"))}
    assert left_out, "the runtime's tests need torch, which the other environment has not"
    every = {path for path in ROOT.glob("[a-z]*/**/*.py") if "/." not in str(path.relative_to(ROOT))}
    assert sorted(every - (seen - left_out) - torch) == []


def test_every_test_asserts_something() -> None:
    """What only waits says too little of what it expects, and passes when its helper forgets to look."""
    silent = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in (*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("e2e/test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if not any(isinstance(each, ast.Assert) or _asserting(each) for each in ast.walk(node))
    ]
    assert silent == []


def _asserting(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name == "raises" or name.startswith(("assert_", "check_"))
