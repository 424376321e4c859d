"""What is in this repository: nothing that unpickles, no pattern that never ends, no dependency without a hash."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import re._constants as words  # type: ignore[import-not-found]
import re._parser as patterns  # type: ignore[import-not-found]
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import zerotide
from e2e.setup import lock

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(
    [*(ROOT / "operator" / "zerotide").rglob("*.py"), *(ROOT / "runtime-image" / "zerotide_runtime").rglob("*.py")]
)
LOCKED = sorted(
    [
        *ROOT.glob("tests/requirements*.txt"),
        *ROOT.glob("operator/*.txt"),
        *ROOT.glob("runtime-image/*.txt"),
        *ROOT.glob("bench/*.txt"),
    ]
)
UNPICKLING = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
REPEATS = {words.MAX_REPEAT, words.MIN_REPEAT}
MANY = 1000


def test_nothing_unpickles_or_runs_a_model_s_code() -> None:
    """Weights are safetensors or GGUF: no module that unpickles, no torch.load, no trust_remote_code, no eval."""
    assert len(CODE) > 200
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names}
                names |= {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set()
                assert not names & UNPICKLING, file
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "numpy.load", "np.load"), (file, called)
                for word in node.keywords:
                    off = isinstance(word.value, ast.Constant) and word.value.value is False
                    assert off or word.arg not in ("trust_remote_code", "allow_pickle"), file


def test_no_client_keeps_cookies_or_asks_the_environment() -> None:
    """A cookie of one tenant's server must not go to another's, nor must a proxy's address come from a variable."""
    found = 0
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ClientSession"):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                found += 1
                assert given.get("trust_env", "False") == "False", file
                # A command's session ends with the command.
                assert "cli" in file.parts or given.get("cookie_jar") == "aiohttp.DummyCookieJar()", file
    assert found > 10


def test_no_client_follows_redirects() -> None:
    """Where a server leads, a token of ours has no business, nor is its answer the one that was asked for."""
    found = 0
    for file in (file for file in CODE if "cli" not in file.parts):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and re.search(
                r"\b_?session\.(get|post|put|patch|delete|request)$", ast.unparse(node.func)
            ):
                found += 1
                assert {word.arg: ast.unparse(word.value) for word in node.keywords}["allow_redirects"] == "False", file
    assert found > 10


@pytest.mark.parametrize("file", LOCKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_locked_package_has_a_hash(file: Path) -> None:
    """And one version: pip takes nothing else."""
    logical = file.read_text().replace("\\\n", " ").splitlines()
    for line in (line for line in logical if line.strip() and not line.lstrip().startswith(("#", "--"))):
        assert "==" in line or " @ " in line, line
        assert "--hash=sha256:" in line, line


def test_a_release_waits_before_it_is_locked() -> None:
    """One that was made with a stolen account is mostly withdrawn by then."""
    asked = [lock.command(target, sources) for target, sources in lock.LOCKS]
    assert {target for target, _ in lock.LOCKS} <= {str(path.relative_to(ROOT)) for path in LOCKED}
    assert all(each[each.index("--exclude-newer") + 1] == lock.PAUSE == "5 days" for each in asked)


def test_images_install_by_hash_alone() -> None:
    """Every pip of a Dockerfile that fetches something asks for hashes, and none resolves anything itself."""
    for file in (ROOT / "operator" / "Dockerfile", ROOT / "runtime-image" / "Dockerfile"):
        steps = re.findall(r"pip (?:install|download) [^&\n]*", file.read_text())
        assert steps
        for step in steps:
            assert {"--no-deps", "--require-hashes"} <= set(step.split()), (file, step)


def in_schemas() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Yield the patterns of the schemas, which clients of the API check as well."""
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        waiting: list[Any] = [yaml.safe_load(file.read_text())]
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict) and isinstance(part.get("pattern"), str):
                yield f"{file.name}: {part['pattern']}", re.compile(part["pattern"])
            waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []


def compiled() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Yield the patterns that the package's modules keep."""
    for module in pkgutil.walk_packages(zerotide.__path__, "zerotide."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    yield f"{module.name}.{name}", value


def depth(parsed: Any) -> int:
    """Return how many repetitions without a small bound are within one another."""
    deepest = 0
    for operation, argument in parsed:
        if operation in REPEATS:
            low, high, inner = argument
            deepest = max(deepest, depth(inner) + (high - low > MANY))
        elif operation is words.SUBPATTERN:
            deepest = max(deepest, depth(argument[-1]))
        elif operation is words.BRANCH:
            deepest = max([deepest, *map(depth, argument[1])])
        elif operation in (words.ASSERT, words.ASSERT_NOT):
            deepest = max(deepest, depth(argument[1]))
    return deepest


def test_no_pattern_takes_exponential_time() -> None:
    """No repetition without a bound within another one, in any pattern that reads what others wrote."""
    found = {**dict(compiled()), **dict(in_schemas())}
    assert len(found) > 20
    assert [name for name, pattern in found.items() if depth(patterns.parse(pattern.pattern, pattern.flags)) > 1] == []


def test_such_patterns_would_be_seen() -> None:
    """The law above is not kept by looking away."""
    for text in (r"(a+)+", r"(?:a|b*)*", r"((x{0,2000})y)*", r"(?=(a*b)+)"):
        assert depth(patterns.parse(text)) > 1
    for text in (r"a+b+", r"(a{1,5})+", r"[a-z]{1,63}(?:\.[a-z]{1,63})*"):
        assert depth(patterns.parse(text)) <= 1
