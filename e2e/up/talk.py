"""Talk to the sleeping model: apply the example, make or find the key, ask, and show what the wake took and cost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

from e2e.up.errors import StepFailed
from e2e.up.progress import Progress, capture, show
from e2e.up.target import ROOT, Target

NAME, NAMESPACE, KEY = "smollm2", "demo", "make-up"
QUESTION = "What is the capital of France?"
IMAGE_VARIABLE = "ZEROTIDE_RUNTIME_IMAGE"
HERE = ["-n", NAMESPACE]


def apply_example(target: Target) -> None:
    """Apply examples/smollm2.yaml, with another image where the environment names one, and wait for the operator."""
    text = (ROOT / "examples/smollm2.yaml").read_text()
    image = os.environ.get(IMAGE_VARIABLE)
    if image:
        text = re.sub(r"(?m)^(\s+image:) \S+$", rf"\1 {image}", text)
    environment = target.environment()
    capture(["kubectl", "apply", "-f", "-"], environment, stdin=text)
    capture(["zerotide", "wait", NAME, *HERE, "--for", "ready", "--timeout", "60s"], environment)


def ensure_key(target: Target) -> None:
    """Keep the key that is there if it still opens the gateway; else make a new one."""
    if target.key_file.exists() and _opens(target, target.key_file.read_text().strip()):
        return
    environment = target.environment()
    subprocess.run(["zerotide", "key", "revoke", KEY, *HERE], env=environment, capture_output=True)
    text = capture(["zerotide", "key", "create", KEY, *HERE], environment).strip()
    target.key_file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(target.key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text + "\n")


def _opens(target: Target, key: str) -> bool:
    """Tell whether the gateway accepts a key; where no address leads to it, compare with the cluster's object."""
    if not target.gateway:
        listed = subprocess.run(
            ["zerotide", "key", "list", *HERE, "--json"], env=target.environment(), capture_output=True
        )
        names = [item["metadata"]["name"] for item in json.loads(listed.stdout or "[]")]
        return KEY in names
    request = urllib.request.Request(f"{target.gateway}/v1/models", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False
    except OSError as error:
        raise StepFailed(f"the gateway {target.gateway} does not answer: {error}") from error


def status(target: Target) -> dict[str, Any]:
    """Return the endpoint's status."""
    item = json.loads(capture(["zerotide", "get", NAME, *HERE, "--json"], target.environment()))
    found: dict[str, Any] = item.get("status") or {}
    return found


def ask(target: Target) -> None:
    """Send one streamed chat request; the answer appears as it comes. Raises StepFailed."""
    print(f"\n  > {QUESTION}\n", flush=True)
    show(["zerotide", "call", NAME, QUESTION, *HERE, "--max-tokens", "64"], target.environment())
    print(flush=True)


def show_wake(target: Target, before: dict[str, Any], progress: Progress) -> None:
    """Print the stages of the wake that the question caused, or say that there was none."""
    known, deadline = (before.get("lastWake") or {}).get("id"), time.monotonic() + 5
    wake: dict[str, Any] = {}
    while time.monotonic() < deadline:
        wake = status(target).get("lastWake") or {}
        if wake.get("id") != known or before.get("state") == "Awake":
            break
        time.sleep(0.2)
    if not wake:
        progress.say("No cold start is recorded.")
        return
    if wake.get("id") == known:
        progress.say(f"It was awake already. Its last cold start, at {wake['time']}:")
    for line in wake_table(wake):
        progress.say(line)


def wake_table(wake: dict[str, Any]) -> list[str]:
    """Return the stages of a wake as a small table with bars."""
    stages = [(stage["name"], milliseconds(stage["duration"])) for stage in wake.get("stages") or []]
    total = milliseconds(wake["total"])
    longest = max((ms for _, ms in stages), default=0) or 1
    lines = [f"{name:<10} {ms / 1000:>8.3f} s  {'█' * round(24 * ms / longest)}".rstrip() for name, ms in stages]
    return [*lines, f"{'total':<10} {total / 1000:>8.3f} s"]


def milliseconds(text: str) -> int:
    """Return the milliseconds of a duration as the API writes it, such as `1m2s30ms`."""
    units = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text))


def show_cost(target: Target) -> None:
    """Print the bill so far."""
    print(flush=True)
    show(["zerotide", "bill", "cost", NAME, *HERE], target.environment())
    print(flush=True)
