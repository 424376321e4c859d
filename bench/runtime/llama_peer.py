"""llama.cpp by PyPI's prebuilt xllamacpp: the same work. Run with an environment that has it alone."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import xllamacpp

from bench.runtime.work import DECODED, PREFILLED, prompt_of


def server(path: str, streams: int) -> Any:
    """Return a server with one thread and as many slots as there are streams."""
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = streams
    params.n_ctx = 512 * streams + 2 * PREFILLED
    params.n_batch = params.n_ubatch = 512
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_prompt = False
    params.verbosity = -1
    return xllamacpp.Server(params)


def complete(engine: Any, prompt: Any, tokens: int, seen: list[float]) -> None:
    """Generate one answer to its length, noting the processor time at each token."""
    asked = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "temperature": 0, "top_k": 1, "stream": True}
    engine.handle_completions(json.dumps(asked), lambda chunk: seen.append(time.process_time()))


def main(path: str, counts: list[int]) -> None:
    """Print tokens per second of processor time, as JSON."""
    found: dict[str, float] = {}
    for streams in counts:
        engine = server(path, streams)
        complete(engine, "warm up", 4, [])
        seen: list[list[float]] = [[] for _ in range(streams)]
        threads = [
            threading.Thread(target=complete, args=(engine, prompt_of(number), 3 * DECODED, times))
            for number, times in enumerate(seen)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Only while every stream decodes: from the last first token to the first last one.
        begin, end = max(times[0] for times in seen), min(times[-1] for times in seen)
        count = sum(begin < at <= end for times in seen for at in times)
        found[f"decode_{streams}"] = count / (end - begin)
        if streams == counts[0]:
            before = time.process_time()
            complete(engine, [1 + number % 40_000 for number in range(PREFILLED)], 1, [])
            found["prefill"] = PREFILLED / (time.process_time() - before)
        del engine
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], [int(number) for number in sys.argv[2:]])
