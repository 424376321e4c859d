"""`python3 -m e2e.tour [FILE]`: run the tour against what `make up` made, and write docs/tour.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from e2e.tour.script import TOUR, Run, Say
from e2e.up.target import ROOT, choose

NAMESPACE = "tour"
HEADER = """# A tour

Every command of Zerotide with its real output, on the local cluster that `make up` starts: one node, two slow cores, a
small language model on the CPU. Written by `python3 -m e2e.tour`; do not edit.
"""


def context(kubeconfig: str) -> str:
    """Return a copy of a kubeconfig whose namespace is the tour's, so that commands need not name it."""
    content = json.loads(Path(kubeconfig).read_text())
    content["contexts"][0]["context"]["namespace"] = NAMESPACE
    return json.dumps(content)


def run(line: str, environment: dict[str, str]) -> tuple[str, int]:
    """Run a command line and return what it said, stderr included, and its exit code; exports are kept."""
    with tempfile.NamedTemporaryFile("r") as kept:
        script = f"{line}\ncode=$?\nenv -0 > {kept.name}\nexit $code\n"
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        for entry in kept.read().split("\0"):
            name, found, value = entry.partition("=")
            if found:
                environment[name] = value
    return done.stdout, done.returncode


def presentable(text: str, environment: dict[str, str]) -> str:
    """Return output fit to be published: no key, no path of this checkout, no trailing blanks."""
    key = environment.get("ZEROTIDE_API_KEY", "")
    text = text.replace(key, "zt_me_…") if key else text
    text = text.replace(f"{ROOT}/", "").replace(environment["KUBECONFIG"], "$KUBECONFIG")
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip()


def block(step: Run, environment: dict[str, str]) -> str:
    """Run one step and return what the reader sees of it."""
    print(f"$ {step.line.splitlines()[0]}", flush=True)
    output, code = run(step.line, environment)
    lines = presentable(output, environment).splitlines()
    if step.keep and len(lines) > step.keep:
        lines = [*lines[: step.keep], "…"]
    if code:
        lines.append(f"(exit code {code})")
    body = "\n".join([f"$ {step.shown or step.line}", *lines])
    return f"```console\n{body}\n```"


def main() -> int:
    """Run every step in a namespace of the tour's own, and write the page."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/tour.md"
    target = choose()
    if target.local is not None and not target.local.running:
        print(f"{target.name} does not run: `make up` starts it", file=sys.stderr)
        return 1
    parts = [HEADER.strip()]
    with tempfile.NamedTemporaryFile("w") as kubeconfig:
        kubeconfig.write(context(target.kubeconfig))
        kubeconfig.flush()
        environment = {**target.environment(), "KUBECONFIG": kubeconfig.name, "COLUMNS": "100"}
        environment.pop("ZEROTIDE_API_KEY", None)
        run(f"kubectl create namespace {NAMESPACE}", environment)
        try:
            for step in TOUR:
                parts.append(step.text if isinstance(step, Say) else block(step, environment))
        finally:
            run(f"kubectl delete namespace {NAMESPACE}", environment)
    path.write_text("\n\n".join(parts) + "\n")
    print(f"written: {path}")
    return 0


sys.exit(main())
