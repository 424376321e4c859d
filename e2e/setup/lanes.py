"""Run commands side by side: each line of what they say bears the name of its lane, so that one log tells all."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Lane:
    """A command, and what its environment has beside this process's."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def side_by_side(lanes: list[Lane], folder: Path) -> list[int]:
    """Run all in that folder and return their codes in order; an interrupt reaches them too, and waits for them."""
    begun = [
        subprocess.Popen(
            lane.command,
            cwd=folder,
            env={**os.environ, **lane.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for lane in lanes
    ]
    readers = [
        threading.Thread(target=_tell, args=(lane.name, process)) for lane, process in zip(lanes, begun, strict=True)
    ]
    for reader in readers:
        reader.start()
    try:
        return [process.wait() for process in begun]
    except KeyboardInterrupt:
        for process in begun:  # the terminal interrupted them as well: they take their clusters down
            process.wait()
        raise
    finally:
        for reader in readers:
            reader.join()


def _tell(name: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            print(f"[{name}] {line}", end="" if line.endswith("\n") else "\n", flush=True)
