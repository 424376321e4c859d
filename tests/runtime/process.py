"""A real server process to talk to."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

LISTENING = re.compile(r"listening on port (\d+)")
START_SECONDS = 180.0


class RuntimeProcess:
    """`python -m zerotide_runtime` on a free port; use it as a context manager."""

    def __init__(self, model_uri: str, *flags: str, name: str = "smollm2", env: dict[str, str] | None = None) -> None:
        command = [sys.executable, *(["-X", "importtime"] if env and "TRACE_IMPORTS" in env else [])]
        command += ["-m", "zerotide_runtime", "--model-uri", model_uri, "--model-name", name]
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0", *flags],
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self.log = ""
        self.port = 0
        self.headers: dict[str, str] = {}
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.finish()

    def listening(self) -> Self:
        """Wait for the open port."""
        self.port = int(self.wait_log(LISTENING)[1])
        return self

    def ready(self) -> Self:
        """Wait until the model is loaded."""
        self.listening()
        self.wait_log(re.compile(r"ready after"))
        return self

    def wait_log(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Read the log until a line matches."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            while (match := pattern.search(self.log)) is None:
                assert selector.select(deadline - time.monotonic()), f"no {pattern.pattern!r} in time:\n{self.log}"
                data = os.read(self.process.stderr.fileno(), 65536)
                assert data, f"the server ended:\n{self.log}"
                self.log += data.decode(errors="replace")
        return match

    def torch_runs(self) -> Self:
        """Wait until torch has taken over: it is imported in a calm second, and takes over with the next request."""
        deadline = time.monotonic() + START_SECONDS
        while "torch" not in [stage["name"] for stage in self.call("GET", "/startup")[1]["stages"]]:
            assert time.monotonic() < deadline, "torch does not take over"
            time.sleep(1.5)  # longer than the calm in which it is imported
            self.call("POST", "/generate", {"inputs": "a", "parameters": {"max_new_tokens": 2}})
        return self

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def finish(self) -> int:
        """Wait for the end; return the exit status."""
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            self.log += self.process.stderr.read().decode(errors="replace")
            self.process.stderr.close()
        return self.process.wait(START_SECONDS)

    @property
    def url(self) -> str:
        """Return where the server is."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def send(self, method: str, path: str, content: Any = None) -> Iterator[http.client.HTTPResponse]:
        """Send one request on a connection of its own; give out the response, unread."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180.0)
        with contextlib.closing(connection):
            body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
            connection.request(method, path, body, self.headers)
            yield connection.getresponse()

    def call(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Send one request; return the status and the decoded JSON."""
        with self.send(method, path, content) as response:
            return response.status, json.loads(response.read())

    def metric(self, series: str) -> float:
        """Return the value of one metric."""
        (value,) = self.metrics(series).values()
        return value

    def metrics(self, name: str) -> dict[str, float]:
        """Return the values of a metric's series, or of the one that is named with its labels."""
        with self.send("GET", "/metrics") as response:
            page = response.read().decode()
        found = re.findall(rf"^({re.escape(name)}(?:\{{.*\}})?) (\S+)$", page, re.MULTILINE)
        return {series: float(value) for series, value in found}


def folder_uri(folder: Path) -> str:
    """Return the location of a folder inside the image."""
    return f"image://{folder}"
