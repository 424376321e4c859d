"""The runtime on a GPU with a model of llama-3-8B's shape, beside the device's limits and transformers.

Part of `make bench-runtime` where there is a GPU; alone with any Python that has torch: python -m bench.runtime.gpu
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.runtime.work import GPU_STREAMS

ROOT = Path(__file__).resolve().parents[2]
DEVICES = ("/dev/nvidiactl", "/dev/dxg")
ROUNDS = "2"


def ask(python: str, module: str, *arguments: str) -> dict[str, Any]:
    """Run a module, and return what it prints on its last line."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime-image'}"}
    command = [python, "-m", f"bench.runtime.{module}", *arguments]
    output = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def rows(limits: dict[str, Any], own: dict[str, Any], peer: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of decoding."""
    found: list[tuple[str, ...]] = [("tokens/s", *(f"{n} streams" for n in GPU_STREAMS))]
    found.append(("this runtime", *(f"{own[f'decode_{n}']:.0f}" for n in GPU_STREAMS)))
    best = [max(peer.get(f"decode_{n}{kind}", 0.0) for kind in ("", "_graphs")) for n in GPU_STREAMS]
    found.append(("transformers continuous", *(f"{rate:.0f}" for rate in best)))
    share = own["read_bytes"] * own["decode_1"] / 1e9 / limits["read_gb_s"]
    found.append(("share of the memory's rate", f"{share:.2f}", *[""] * (len(GPU_STREAMS) - 1)))
    return found


def measure(python: str, folder: Path) -> dict[str, Any]:
    """Measure everything; print it as it comes, and return the results' keys."""
    ask_quietly = [python, "-m", "bench.runtime.gpu_model", str(folder)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime-image'}"}
    subprocess.run(ask_quietly, cwd=ROOT, env=environment, check=True)
    limits = ask(python, "gpu_limits")
    print(json.dumps(limits), flush=True)
    own = ask(python, "gpu_own", str(folder), "loads", "profile")
    print(json.dumps(own), flush=True)
    starts = ask(python, "gpu_starts", str(folder), ROUNDS)
    for kind, measured in starts.items():
        print(f"{kind}: " + ", ".join(f"ready {ready} s, first token {first} s" for ready, first in measured))
    peer = ask(python, "gpu_peer", str(folder))
    print(json.dumps(peer), flush=True)
    for row in rows(limits, own, peer):
        print(f"{row[0]:<28}" + "".join(f"{cell:>14}" for cell in row[1:]))
    return {
        "gpu": limits["device"],
        "gpu_link_gb_s": round(limits["link_gb_s"], 1),
        "gpu_load_gb_s": round(own["load_gb_s"], 1),
        "gpu_prefill_tok_s": round(own["prefill"]),
        **{f"gpu_{kind.replace(' ', '_')}_s": min(first for _, first in measured) for kind, measured in starts.items()},
        **{f"gpu_decode_tok_s_{n}": round(own[f"decode_{n}"]) for n in GPU_STREAMS},
    }


def main() -> None:
    """Measure with this Python."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "model"
        print("RESULT " + json.dumps(measure(sys.executable, place)))


if __name__ == "__main__":
    if not any(Path(device).exists() for device in DEVICES):
        raise SystemExit("no GPU here")
    main()
