"""Clients that need a process of their own: each reads asks and writes outcomes, a line each."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.setup import debian
from e2e.setup.alone import alone
from tests.activator.clients.asks import Ask, Outcome

ROOT = Path(__file__).parents[3]
TGI_PYTHON = ROOT / ".venv-tgi" / "bin" / "python"
SOURCES = Path(__file__).parent / "js"
INSTALLED = ROOT / ".build" / "clients-js"
NODE = {"nodejs": "node", "npm": "npm"}
MANIFESTS = ("package.json", "package-lock.json", ".npmrc")

TGI_CLIENT = """
import json, sys
from text_generation import Client
for line in sys.stdin:
    ask = json.loads(line)
    client = Client(ask["url"], headers={"Authorization": "Bearer " + ask["key"], **ask["headers"]}, timeout=30)
    try:
        if ask["stream"]:
            outcome = {"text": "".join(part.token.text for part in client.generate_stream(ask["prompt"]))}
        else:
            outcome = {"text": client.generate(ask["prompt"]).generated_text}
    except Exception as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(outcome), flush=True)
"""


class ChildEnded(Exception):
    """A client's process that ended instead of telling an outcome."""


class Child:
    """A client in a process of its own; it asks one thing at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, url: str, key: str, ask: Ask) -> Outcome:
        """Ask and return the outcome; raise ChildEnded where there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(ask.at(url, key)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ChildEnded(f"the client ended with {self._process.wait()}: its reason is on stderr")
        return Outcome(**json.loads(line))


@contextmanager
def running(*command: str, cwd: Path | None = None) -> Iterator[Child]:
    """Run a client until left."""
    with subprocess.Popen(command, cwd=cwd, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


def node() -> str:
    """Return Node.js, it and the pinned huggingface.js installed. Raises PackagesMissing where it cannot be had."""
    debian.ensure(NODE)
    program, npm = shutil.which("node"), shutil.which("npm")
    assert program is not None and npm is not None, "both are there now"
    wanted = "".join((SOURCES / name).read_text() for name in MANIFESTS)
    stamp = INSTALLED / "installed"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with alone():
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            for name in MANIFESTS:
                shutil.copy(SOURCES / name, INSTALLED)
            subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=INSTALLED, check=True)
            stamp.write_text(wanted)
        # Node.js looks for packages beside the script, which another process may be reading.
        script = INSTALLED / "client.mjs"
        if not script.exists() or script.read_bytes() != (SOURCES / script.name).read_bytes():
            shutil.copy(SOURCES / script.name, script)
    return program
