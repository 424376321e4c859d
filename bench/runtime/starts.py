"""How long a process takes to its first token: from nothing, standing by, and asleep. A client waits at its port."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.runtime.work import prompt_of

TOKEN = "bench"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "ZEROTIDE_THREADS": "1"}
LISTENING, STANDING_BY = re.compile(r"listening on port (\d+)"), re.compile(r"standing by()")


class Start(NamedTuple):
    """Seconds until requests run, until the first token was here, and of processor time."""

    ready: float
    first: float
    processor: float


def spent(pid: int) -> float:
    """Return the seconds that all threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


class Server:
    """A runtime process with one thread, or another environment."""

    def __init__(self, python: str, *flags: str, environment: Mapping[str, str] = ONE_THREAD) -> None:
        environment = {**os.environ, **environment, "ZEROTIDE_ADMIN_TOKEN": TOKEN}
        command = [python, "-m", "zerotide_runtime", "--host", "127.0.0.1", "--port", "0", *flags]
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.port = int(self.wait(LISTENING))

    def wait(self, pattern: re.Pattern[str]) -> str:
        """Read the log until a line matches; return the match's group."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if match := pattern.search(line):
                return match[1]
        raise RuntimeError("the runtime ended; run it by hand to see why")

    def call(self, method: str, path: str, content: Any = None) -> Any:
        """Send one request; return the decoded answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, json.dumps(content), {"authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {answer}")
        return answer

    def first_token(self) -> None:
        """Return when the first token of a chat is here."""
        self.call("POST", "/generate", {"inputs": prompt_of(0), "parameters": {"max_new_tokens": 1}})


@contextmanager
def server(python: str, *flags: str, environment: Mapping[str, str] = ONE_THREAD) -> Iterator[Server]:
    """Start a process, and kill it."""
    made = Server(python, *flags, environment=environment)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        assert made.process.stderr is not None
        made.process.stderr.close()


def cold(python: str, model: str) -> tuple[Start, dict[str, float]]:
    """Measure a process from its first moment; return its stages in milliseconds too."""
    with server(python, "--model-uri", model) as process:
        process.first_token()
        first = time.monotonic() - process.began
        used = spent(process.process.pid)
        stages = {stage["name"]: stage["ms"] for stage in process.call("GET", "/startup")["stages"]}
    return Start(stages["ready"] / 1000, first, used), stages


def warm(python: str, model: str) -> tuple[Start, Start]:
    """Measure an adoption by a process that stands by, and its wake from sleep without weights."""
    with server(python, "--standby") as process:
        process.wait(STANDING_BY)
        adopted = ordered(process, "/admin/load", {"model": model})
        process.call("POST", "/sleep?level=2")
        return adopted, ordered(process, "/wake_up", None)


def ordered(process: Server, path: str, content: Any) -> Start:
    before, began = spent(process.process.pid), time.monotonic()
    process.call("POST", path, content)
    ready = time.monotonic() - began
    process.first_token()
    return Start(ready, time.monotonic() - began, spent(process.process.pid) - before)
