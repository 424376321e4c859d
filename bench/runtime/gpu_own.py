"""This runtime's engine on a GPU: load, decode at several numbers of streams, prefill, and where the time goes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.runtime.own import Watch, run
from bench.runtime.work import GPU_DECODED, GPU_PREFILLED, GPU_STREAMS, gpu_prompt
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.gpu.loading import open_gpu
from zerotide_runtime.gpu.runner import GpuRunner
from zerotide_runtime.gpu.upload import upload
from zerotide_runtime.gpu.warm import warm_up
from zerotide_runtime.weights.mapped import MappedWeights

KEPT = 1 << 18  # tokens of cache


def profile(engine: Engine, assets: Any, prompts: list[list[int]], name: str) -> dict[str, float]:
    """Return the share of the busiest kernels, in milliseconds of each step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        run(engine, assets, prompts, 33)
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)[:14]
    return {f"{name} {row.key[:70]} x{row.count}": round(row.self_device_time_total / 32e3, 3) for row in rows}


def main(folder: Path, *flags: str) -> None:
    """Print figures as JSON."""
    found: dict[str, Any] = {}
    gpu, assets = open_gpu(), load_assets(folder)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    began = time.monotonic()
    weights = MappedWeights(folder)
    for threads in (1, 2, 4, 8, 8):
        began = time.monotonic()
        files = upload(gpu.driver, weights.files, threads)
        found[f"load_gb_s_{threads}"] = weights.nbytes / (time.monotonic() - began) / 1e9
        if "once" in flags:
            break
        if threads != 8:
            del files
    began = time.monotonic()
    warm_up(assets.config)
    found["warm_s"] = time.monotonic() - began
    most = max(GPU_STREAMS)
    runner = GpuRunner.load(assets.config, weights, upload(gpu.driver, weights.files, 8), KEPT, most)
    watch = Watch(time.monotonic)
    engine = Engine(lambda: (runner, None), most, watch, time.monotonic)
    engine.start()
    watch.ready.wait()
    for streams in GPU_STREAMS:
        prompts = [gpu_prompt(number) for number in range(streams)]
        run(engine, assets, prompts, 16)  # so that the size is recorded
        watch.steps.clear()
        began = time.monotonic()
        run(engine, assets, prompts, GPU_DECODED + 1)
        found[f"whole_{streams}"] = streams * (GPU_DECODED + 1) / (time.monotonic() - began)
        stamps = [at for kind, rows, at in watch.steps if kind == "decode" and rows == streams]
        found[f"decode_{streams}"] = streams * (len(stamps) - 1) / (stamps[-1] - stamps[0])
        if "profile" in flags:
            found.update(profile(engine, assets, prompts, str(streams)))
    run(engine, assets, [list(range(GPU_PREFILLED))], 1)
    began = time.monotonic()
    run(engine, assets, [list(range(GPU_PREFILLED))], 1)
    found["prefill"] = GPU_PREFILLED / (time.monotonic() - began)
    found["recorded"] = runner.steps.recorded
    found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    engine.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
