"""This runtime's engine: decode at several numbers of streams, and prefill. Run with .venv-runtime."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.runtime.work import DECODED, PREFILLED, STREAMS, prompt_of
from zerotide_runtime.assets import Assets, load_assets
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.request import Event, FailureEvent, Sampling, Sequence
from zerotide_runtime.engine.runner import Runner
from zerotide_runtime.engine.text import Detokeniser, StopStrings
from zerotide_runtime.weights.mapped import MappedWeights


class Watch:
    """An observer that keeps the time at each step, and its new tokens: the processor's time, or another clock's."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self.ready = threading.Event()
        self.steps: list[tuple[str, int, float]] = []

    def loaded(self) -> None:
        self.ready.set()

    def failed(self, error: BaseException) -> None:
        print(error, file=sys.stderr)
        self.ready.set()

    def slept(self, level: int) -> None:
        raise AssertionError

    def succeeded(self) -> None:
        raise AssertionError

    def told(self, kind: str, seconds: float) -> None:
        """Nothing of this is shown."""

    def broke(self, kind: str) -> None:
        raise AssertionError

    def stepped(self, kind: str, rows: int, tokens: int, seconds: float) -> None:
        self.steps.append((kind, tokens, self._clock()))


def run(
    engine: Engine, assets: Assets, prompts: list[list[int]], tokens: int, sampling: Sampling | None = None
) -> None:
    """Generate for all prompts at once, to the end; nothing is taken from what earlier ones began with."""
    left = threading.Semaphore(0)
    answers: list[Sequence] = []

    def sink(event: Event) -> None:
        assert not isinstance(event, FailureEvent), event
        if event.finish is not None:
            left.release()

    for prompt in prompts:
        text = Detokeniser(assets.codec)
        drawn = sampling or Sampling()
        answers.append(Sequence(prompt, tokens, frozenset(), drawn, StopStrings(), text, sink, salt=None))
    for sequence in answers:
        engine.submit(sequence)
    for _ in answers:
        left.acquire()


def main(folder: Path) -> None:
    """Print tokens per second of processor time, as JSON."""
    assets = load_assets(folder)
    watch = Watch()
    engine = Engine(
        lambda: (Runner.load(assets.config, MappedWeights(folder), 1 << 16, 1), None), 64, watch, time.monotonic
    )
    engine.start()
    watch.ready.wait()
    found: dict[str, Any] = {}
    run(engine, assets, [assets.codec.encode("warm up", add_special_tokens=False)] * max(STREAMS), 40)
    for streams in STREAMS:
        watch.steps.clear()
        prompts = [assets.codec.encode(prompt_of(number), add_special_tokens=False) for number in range(streams)]
        run(engine, assets, prompts, DECODED + 1)
        stamps = [at for kind, tokens, at in watch.steps if kind == "decode" and tokens == streams]
        found[f"decode_{streams}"] = streams * (len(stamps) - 1) / (stamps[-1] - stamps[0])
    watch.steps.clear()
    prompt = (assets.codec.encode(prompt_of(0), add_special_tokens=False) * PREFILLED)[:PREFILLED]
    before = time.process_time()
    run(engine, assets, [prompt], 1)
    found["prefill"] = PREFILLED / (time.process_time() - before)
    engine.stop()
    engine.join(60)  # a thread that Python ends inside torch ends the process in its own way
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
