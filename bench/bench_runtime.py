"""The runtime on one core: starts, decoding and prefill beside llama.cpp and transformers: `make bench-runtime`.

SmolLM2-135M in float32 everywhere, one thread. Starts are wall time, interleaved; their medians count. Engines are
measured in tokens per second of processor time, which is what one core alone would give, so that other work on the
machine does not decide; each in a process of its own, in turn, round after round, and the best of each counts.
Where there is a GPU, a large model follows on it (`bench/runtime/gpu.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.local import prepare_process
from bench.runtime import gpu
from bench.runtime.starts import Start, cold, warm
from bench.runtime.work import STREAMS
from bench.wire.programs import say
from e2e.setup.venvs import make
from zerotide_runtime.engine.limits import prepare_torch

ROOT = Path(__file__).resolve().parents[1]
RUNTIME, PEERS = str(ROOT / ".venv-runtime/bin/python"), str(ROOT / ".venv-peers/bin/python")


def ask(python: str, module: str, *arguments: str) -> dict[str, str]:
    """Run a module that prints JSON on its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime-image'}"}
    if module == "own":
        prepare_torch(environment)  # as the runtime's own start does
    command = [python, "-m", f"bench.runtime.{module}", *arguments]
    output = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    answer: dict[str, str] = json.loads(output.splitlines()[-1])
    return answer


def starts(model: str, rounds: int) -> dict[str, list[Start]]:
    """Measure all kinds of starts in turn."""
    found: dict[str, list[Start]] = {"cold": [], "adopt": [], "wake": []}
    stages: list[dict[str, float]] = []
    for _ in range(rounds):
        start, reached = cold(RUNTIME, model)
        adopted, woken = warm(RUNTIME, model)
        for kind, measured in (("cold", start), ("adopt", adopted), ("wake", woken)):
            found[kind].append(measured)
        stages.append(reached)
    print("stages of a cold start, median ms: " + ", ".join(_median_stages(stages)))
    return found


def _median_stages(stages: list[dict[str, float]]) -> list[str]:
    return [f"{name} {statistics.median(found[name] for found in stages if name in found):.0f}" for name in stages[0]]


def engines(published: str, wide: str, rounds: int) -> dict[str, dict[str, float]]:
    """Measure all engines in turn; return the best figure of each."""
    found: dict[str, dict[str, float]] = {}
    for number in range(rounds):
        for name, call in (
            ("own", (RUNTIME, "own", published)),
            ("llama.cpp", (PEERS, "llama_peer", wide, *map(str, STREAMS))),
            ("transformers", (RUNTIME, "transformers_peer", published)),
        ):
            say(f"round {number + 1}: {name}")
            for key, value in ask(*call).items():
                best = found.setdefault(name, {})
                best[key] = max(best.get(key, 0.0), float(value))
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the engines' figures as text."""
    rows = [("", *[f"{n} streams" for n in STREAMS], "prefill")]
    for name, prefix, figures in (
        ("this runtime", "decode", found["own"]),
        ("llama.cpp", "decode", found["llama.cpp"]),
        ("transformers generate", "generate", found["transformers"]),
        ("transformers continuous", "continuous", found["transformers"]),
    ):
        cells = [figures.get(f"{prefix}_{n}") for n in STREAMS] + [figures.get("prefill")]
        rows.append((name, *["" if cell is None else f"{cell:.1f}" for cell in cells]))
    return "\n".join(f"{row[0]:<26}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows)


def main() -> None:
    """Measure everything, and print the line of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=7, help="starts of each kind (default: 7)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of the engines (default: 2)")
    options = parser.parse_args()
    for name in ("runtime", "peers"):
        make(name)
    prepare_process()
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(everywhere)})
    files = ask(RUNTIME, "files")
    os.environ["PYTHONPATH"] = str(ROOT / "runtime-image")
    began = starts(files["published"], options.starts)
    for kind, measured in began.items():
        ready, first, processor = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{kind}: ready {ready:.3f} s, first token {first:.3f} s, {processor:.3f} s of processor time")
    found = engines(files["published"], files["wide"], options.rounds)
    print(table(found))
    own, llama, reference = found["own"], found["llama.cpp"], found["transformers"]
    result = {
        **{f"{kind}_s": round(statistics.median(start.first for start in began[kind]), 3) for kind in began},
        **{f"decode_tok_s_{n}": round(own[f"decode_{n}"], 1) for n in STREAMS},
        "llamacpp_tok_s_8": round(llama["decode_8"], 1),
        "transformers_tok_s_8": round(max(reference["generate_8"], reference["continuous_8"]), 1),
        "transformers_tok_s_32": round(max(reference["generate_32"], reference["continuous_32"]), 1),
        "prefill_tok_s": round(own["prefill"], 1),
    }
    if any(Path(device).exists() for device in gpu.DEVICES):
        os.sched_setaffinity(0, everywhere)
        with tempfile.TemporaryDirectory() as folder:
            result.update(gpu.measure(RUNTIME, Path(folder) / "model"))
    else:
        print("no GPU here")
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
