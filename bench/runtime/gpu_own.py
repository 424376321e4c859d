"""This runtime's engine on a GPU: load, decode at several numbers of streams, prefill, and where the time goes."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from bench.runtime.own import Watch, run
from bench.runtime.work import GPU_DECODED, GPU_PREFILLED, GPU_STREAMS, gpu_prompt
from zerotide_runtime.assets import Assets, load_assets
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.request import Sampling
from zerotide_runtime.gpu.driver import Driver
from zerotide_runtime.gpu.loading import kernels, open_gpu
from zerotide_runtime.gpu.runner import GpuRunner
from zerotide_runtime.gpu.upload import THREADS, upload
from zerotide_runtime.gpu.warm import warm_up
from zerotide_runtime.weights.mapped import MappedWeights

KEPT = 1 << 18  # tokens of cache
DRAWN_STREAMS = 32
DRAWN = {"drawn": Sampling(temperature=0.8, seed=1), "top_p": Sampling(temperature=0.8, top_p=0.95, seed=1)}


def busiest(engine: Engine, assets: Assets, watch: Watch, streams: int) -> dict[str, float]:
    """Return what the device does in a decoding step: milliseconds of each kernel, of all, and of the step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]):
        pass  # the first one takes seconds
    work = threading.Thread(target=run, args=(engine, assets, [gpu_prompt(n) for n in range(streams)], 700))
    watch.steps.clear()
    work.start()
    while sum(tokens == streams and kind == "decode" for kind, tokens, _ in list(watch.steps)) < 20 and work.is_alive():
        time.sleep(0.01)
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        watch.steps.clear()
        began = time.monotonic()
        while len(watch.steps) < 40 and work.is_alive():
            time.sleep(0.002)
        steps, took = max(1, len(watch.steps)), time.monotonic() - began
    work.join()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)
    each = {row.key[:64]: (row.self_device_time_total / 1000 / steps, row.count / steps) for row in rows[:16]}
    for name, (spent, count) in each.items():
        print(f"{streams:4} streams: {spent:7.3f} ms in {count:6.1f} x {name}", file=sys.stderr)
    whole = sum(row.self_device_time_total for row in rows) / 1000 / steps
    print(f"{streams:4} streams: {whole:7.3f} ms busy of {took * 1000 / steps:.3f}", file=sys.stderr)
    return {f"busy_ms_{streams}": whole}


def loads(driver: Driver, folder: Path) -> dict[str, float]:
    """Return GB/s from the page cache, by the number of threads."""
    found = {}
    weights = MappedWeights(folder)
    for threads in (1, 2, 4, THREADS):
        began = time.monotonic()
        files = upload(driver, weights.files, threads)
        found[f"load_gb_s_{threads}"] = weights.nbytes / (time.monotonic() - began) / 1e9
        del files
    return found


def main(folder: Path, *flags: str) -> None:
    """Print figures as JSON."""
    found: dict[str, Any] = {}
    gpu, assets = open_gpu(), load_assets(folder)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    began = time.monotonic()
    fused = None if "unfused" in flags else kernels(gpu.driver)
    found["compile_s"] = time.monotonic() - began
    if "loads" in flags:
        found.update(loads(gpu.driver, folder))
    weights = MappedWeights(folder)
    began = time.monotonic()
    files = upload(gpu.driver, weights.files, THREADS)
    found["load_gb_s"] = weights.nbytes / (time.monotonic() - began) / 1e9
    began = time.monotonic()
    warm_up(assets.config, fused)
    found["warm_s"] = time.monotonic() - began
    most = max(GPU_STREAMS)
    runner = GpuRunner.load(assets.config, weights, files, KEPT, most, fused)
    watch = Watch(time.monotonic)
    engine = Engine(lambda: (runner, None), most, watch, time.monotonic)
    engine.start()
    watch.ready.wait()
    for streams in GPU_STREAMS:
        prompts = [gpu_prompt(number) for number in range(streams)]
        run(engine, assets, prompts, 48)  # so that the step is recorded
        watch.steps.clear()
        began = time.monotonic()
        run(engine, assets, prompts, GPU_DECODED + 1)
        found[f"whole_{streams}"] = streams * (GPU_DECODED + 1) / (time.monotonic() - began)
        stamps = [at for kind, tokens, at in watch.steps if kind == "decode" and tokens == streams]
        found[f"decode_{streams}"] = streams * (len(stamps) - 1) / (stamps[-1] - stamps[0])
        if "profile" in flags:
            found.update(busiest(engine, assets, watch, streams))
    for name, setting in DRAWN.items():
        prompts = [gpu_prompt(number) for number in range(DRAWN_STREAMS)]
        watch.steps.clear()
        run(engine, assets, prompts, GPU_DECODED + 1, setting)
        stamps = [at for kind, tokens, at in watch.steps if kind == "decode" and tokens == DRAWN_STREAMS]
        found[f"{name}_{DRAWN_STREAMS}"] = DRAWN_STREAMS * (len(stamps) - 1) / (stamps[-1] - stamps[0])
    for _ in range(2):
        began = time.monotonic()
        run(engine, assets, [list(range(GPU_PREFILLED))], 1)
        found["prefill"] = GPU_PREFILLED / (time.monotonic() - began)
    found["recorded"] = len(runner.steps.recorded)
    found["read_bytes"] = weights.nbytes - assets.config.vocabulary * assets.config.hidden * 2
    engine.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
