"""How long the runtime takes to a large model's first token on a GPU: cold, with cached files, adopted, woken."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from bench.runtime.starts import STANDING_BY, Start, ordered, server


def forget(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(folder: Path, rounds: int) -> None:
    """Print seconds to readiness and to the first token of each kind, as JSON."""
    found: dict[str, list[tuple[float, float]]] = {}

    def note(kind: str, start: Start) -> None:
        found.setdefault(kind, []).append((round(start.ready, 3), round(start.first, 3)))

    for number in range(rounds):
        for kind in ("from disk", "from the page cache"):
            if kind == "from disk":
                if number > 0:
                    continue
                forget(folder)
            with server(sys.executable, "--model-uri", str(folder), environment={}) as process:
                process.first_token()
                first = time.monotonic() - process.began
                stages = {stage["name"]: stage["ms"] for stage in process.call("GET", "/startup")["stages"]}
                note(kind, Start(stages["ready"] / 1000, first, 0.0))
                print(kind, stages, file=sys.stderr)
                if kind == "from the page cache":
                    for level in (1, 2, 1):
                        process.call("POST", f"/sleep?level={level}")
                        note(f"woken from level {level}", ordered(process, "/wake_up", None))
        with server(sys.executable, "--standby", environment={}) as process:
            process.wait(STANDING_BY)
            note("adopted", ordered(process, "/admin/load", {"model": str(folder)}))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
