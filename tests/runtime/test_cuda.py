"""The engine on a real GPU: exactness beside transformers, recorded steps, memory, sleep, and a server."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtime.models import make_tiny
from tests.runtime.process import RuntimeProcess, folder_uri
from tests.runtime.test_engine import PROMPTS, Recorder, Started, make
from tests.runtime.test_packed import FAMILIES, answers
from tests.runtime.test_sampler import sequence
from tests.runtime.test_sleep import TOKEN, order
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.hollow import PLAIN
from zerotide_runtime.engine.layers import build_weights
from zerotide_runtime.engine.request import FailureEvent, Sampling
from zerotide_runtime.engine.sampler import sample
from zerotide_runtime.errors import OutOfMemory
from zerotide_runtime.gpu.driver import Driver
from zerotide_runtime.gpu.loading import kernels
from zerotide_runtime.gpu.ops import FusedOps, TorchOps
from zerotide_runtime.gpu.pack import pack
from zerotide_runtime.gpu.reader import DeviceReader
from zerotide_runtime.gpu.runner import GpuRunner
from zerotide_runtime.gpu.upload import upload
from zerotide_runtime.weights.mapped import MappedWeights
from zerotide_runtime.weights.publish import publish

pytestmark = pytest.mark.gpu
WIDE: dict[str, Any] = {"head_dim": 16}  # as flash attention wants it: a multiple of eight
LENGTH = 40


@pytest.fixture(scope="module")
def driver() -> Driver:
    return Driver()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model as a GPU's is stored."""
    folder = tmp_path_factory.mktemp("wide")
    publish(make_tiny(folder / "source", **WIDE), folder / "half", "bfloat16")
    return folder / "half"


def runner_of(
    driver: Driver, folder: Path, dtype: torch.dtype, *, tokens: int = 4096, record: bool = True
) -> GpuRunner:
    config, weights = load_assets(folder).config, MappedWeights(folder)
    files = upload(driver, weights.files, 4)
    read = build_weights(config, DeviceReader(weights, files, dtype))
    return GpuRunner(config, read, tokens, 8, kernels(driver), record=record)


class OnDevice(Started):
    """An engine on the GPU."""

    def __init__(self, runner: GpuRunner) -> None:
        self.recorder = Recorder()
        self.engine = Engine(lambda: (runner, None), 8, self.recorder, time.monotonic)


def reference(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    family: Any = AutoModelForCausalLM
    return family.from_pretrained(folder, dtype=dtype).to("cuda").eval()


@pytest.mark.parametrize(("kind", "changes"), FAMILIES)
def test_greedy_answers_are_those_of_transformers(
    driver: Driver, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    folder = make_tiny(tmp_path / "model", kind, **changes)
    model = reference(folder, torch.float32)
    expected = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt], device="cuda")
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=LENGTH, do_sample=False, pad_token_id=0
        )
        expected.append(out[0, len(prompt) :].tolist())
    with OnDevice(runner_of(driver, folder, torch.float32)) as device:
        assert [answers(device.engine, [prompt], LENGTH)[0] for prompt in PROMPTS] == expected
        assert answers(device.engine, PROMPTS, LENGTH) == expected


@pytest.mark.parametrize(("kind", "changes"), FAMILIES)
@torch.inference_mode()
def test_half_precision_is_as_near_as_that_of_transformers(
    driver: Driver, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    folder = make_tiny(tmp_path / "model", kind, **{**changes, **WIDE})
    prompts = [torch.randint(0, 256, (length,)).tolist() for length in (150, 7, 40)]
    exact, half = reference(folder, torch.float32), reference(folder, torch.bfloat16)
    runner = runner_of(driver, folder, torch.bfloat16)
    assert runner.cache.reserve(3, 150)
    starts = [runner.cache.start(row) for row in range(3)]
    # All but the last token side by side as prompts, then the last ones as a step.
    runner.model.run(pack([p[:-1] for p in prompts], [0] * 3, starts, runner.device, every=False), runner.cache)
    runner.steps.launch([p[-1] for p in prompts], [len(p) - 1 for p in prompts], starts)
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt], device="cuda")
        wanted, theirs = exact(ids).logits[0, -1], half(ids).logits[0, -1].float()
        error = ((runner.steps.logits[row] - wanted).norm() / wanted.norm()).item()
        usual = ((theirs - wanted).norm() / wanted.norm()).item()
        print(f"{kind}: {error:.4f} beside {usual:.4f} of transformers")
        assert error < max(2 * usual, 0.01)


@pytest.mark.parametrize("activation", ["silu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width", "hidden", "middle"),
    [(4, 2, 16, 48, 96), (32, 8, 128, 4096, 14336), (3, 1, 256, 9000, 8)],
)
@torch.inference_mode()
def test_fused_kernels_compute_what_torch_computes(
    driver: Driver, activation: str, heads: int, kv_heads: int, width: int, hidden: int, middle: int
) -> None:
    fused = kernels(driver)
    assert fused is not None
    shape: dict[str, Any] = {"hidden": hidden, "intermediate": middle, "heads": heads, "kv_heads": kv_heads}
    config = dataclasses.replace(PLAIN, activation=activation, head_dim=width, **shape)

    def some(*sizes: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(sizes, device="cuda").to(dtype)

    tables = some(300, width // 2), some(300, width // 2)
    ours, theirs = FusedOps(config, *tables, fused), TorchOps(config, *tables)
    exact = TorchOps(config, *(table.double() for table in tables))
    for tokens in (1, 5, 300):
        base, delta, weight = some(tokens, hidden), some(tokens, hidden), some(hidden)
        for more in (None, delta):
            wanted = theirs.norm(base, more, weight)
            found = ours.norm(base.clone(), more, weight)
            assert torch.equal(found[0], wanted[0])
            near(found[1], wanted[1], theirs.norm(wanted[0].double(), None, weight.double())[1])
        both = some(tokens, 2 * middle)
        near(ours.gate(both), theirs.gate(both), exact.gate(both.double()))
        heads_of = some(tokens, heads + 2 * kv_heads, width)
        made = pack([[0] * tokens], [0], [40], torch.device("cuda"), every=False)
        for norms in (None, (some(width), some(width))):
            caches = [[torch.zeros(400, kv_heads, width, device="cuda", dtype=d) for _ in range(2)] for d in KINDS]
            turned = ours.turn(heads_of, norms, made, *caches[0])
            expected = theirs.turn(heads_of, norms, made, *caches[1])
            wide = norms and (norms[0].double(), norms[1].double())
            truth = exact.turn(heads_of.double(), wide, made, *caches[2])
            near(turned, expected, truth)
            near(caches[0][0], caches[1][0], caches[2][0])
            assert torch.equal(caches[0][1], caches[1][1])


KINDS = (torch.bfloat16, torch.bfloat16, torch.float64)


def near(ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> None:
    """Assert that ours is about as near to the truth as theirs."""
    error, usual = (((found.double() - exact).norm() / exact.norm()).item() for found in (ours, theirs))
    assert error < 1.2 * usual + 1e-5, f"{error} beside {usual}"


def test_recorded_steps_give_what_they_give_unrecorded(driver: Driver, wide: Path) -> None:
    found = {}
    for record in (False, True):
        runner = runner_of(driver, wide, torch.bfloat16, record=record)
        with OnDevice(runner) as device:
            alone = answers(device.engine, PROMPTS[:1], LENGTH)
            found[record] = alone + answers(device.engine, PROMPTS, LENGTH) + answers(device.engine, PROMPTS, LENGTH)
        assert bool(runner.steps.recorded) == record
        assert not record or {1, len(PROMPTS) + 3} <= {size for size, _ in runner.steps.recorded}
    assert found[True] == found[False]


def test_who_needs_more_room_gets_it_while_steps_stay_recorded(driver: Driver, wide: Path) -> None:
    with OnDevice(runner_of(driver, wide, torch.bfloat16, tokens=4096)) as device:
        long = [number * 7 % 256 for number in range(500)]
        expected = answers(device.engine, [long], 300)
        assert answers(device.engine, [long, *PROMPTS[:3]], 300)[0][:20] == expected[0][:20]
        assert answers(device.engine, [long], 300) == expected


def test_the_device_draws_as_the_processor_does() -> None:
    settings = [
        Sampling(),
        Sampling(temperature=0.7, seed=1),
        Sampling(temperature=1.2, top_k=5, seed=2),
        Sampling(temperature=0.9, top_p=0.8, top_k=50, seed=3),
        Sampling(temperature=1.0, typical_p=0.7, seed=4),
        Sampling(repetition_penalty=1.3, frequency_penalty=0.5),
        Sampling(bias=((3, 5.0),)),
        Sampling(watermark=True),
    ]
    logits = torch.randn(len(settings), 500, generator=torch.Generator().manual_seed(0)) * 3
    here = sample(logits.clone(), [sequence(each, [1, 2, 3], [4, 5]) for each in settings])
    there = sample(logits.to("cuda"), [sequence(each, [1, 2, 3], [4, 5]) for each in settings])
    assert [choice.token for choice in there] == [choice.token for choice in here]
    assert [choice.logprob for choice in there] == pytest.approx([choice.logprob for choice in here], abs=1e-4)


def test_memory_that_is_not_there_is_an_error_of_who_needs_it(driver: Driver, wide: Path) -> None:
    with OnDevice(runner_of(driver, wide, torch.bfloat16)) as device:
        expected = answers(device.engine, PROMPTS[:1], 8)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-6)
        try:
            large, failure = make([5] * 4000, 4)
            device.engine.submit(large)
            event = failure.get(timeout=60)
            assert isinstance(event, FailureEvent) and "out of memory" in event.message
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert answers(device.engine, PROMPTS[:1], 8) == expected


def test_bytes_arrive_on_the_device_and_leave_it_again(driver: Driver, tmp_path: Path) -> None:
    content = torch.randint(0, 256, (40_000_003,), dtype=torch.uint8)
    (tmp_path / "bytes").write_bytes(content.numpy().tobytes())
    (file,) = upload(driver, [(tmp_path / "bytes", 8)], 4)
    there = torch.as_tensor(file, device="cuda")
    assert there.data_ptr() == file.address
    assert torch.equal(there[file.shift :].cpu(), content)
    held = driver.free_bytes
    del file, there
    gc.collect()
    assert driver.free_bytes > held
    with pytest.raises(OutOfMemory):
        driver.allocate(1 << 50)


def test_a_stranger_is_computed_on_the_device_too(tmp_path: Path) -> None:
    from zerotide_runtime.engine.foreign import ForeignRunner

    folder = make_tiny(tmp_path / "gpt2", "gpt2", n_embd=48, n_layer=2, n_head=4, n_positions=512)
    runner = ForeignRunner(folder, 4096, 1)
    assert runner.device.type == "cuda"
    recorder = Recorder()
    engine = Engine(lambda: (runner, None), 4, recorder, time.monotonic)
    engine.start()
    assert [len(answer) for answer in answers(engine, PROMPTS[:2], 8)] == [8, 8]
    engine.stop()


@pytest.fixture(scope="module")
def server(wide: Path) -> Iterator[RuntimeProcess]:
    with RuntimeProcess(folder_uri(wide), "--admin-token", TOKEN, "--max-batch", "16") as process:
        yield process.ready()


ASKED = {"inputs": "abc", "parameters": {"max_new_tokens": 12}}


def used() -> int:
    """Return how many MiB of the device's memory are in use."""
    free, total = torch.cuda.mem_get_info()
    return (total - free) >> 20


def test_a_server_answers_from_the_device(server: RuntimeProcess) -> None:
    status, answer = server.call("POST", "/generate", ASKED)
    assert status == 200 and answer["generated_text"]
    with server.send("POST", "/generate", ASKED) as response:
        assert response.getheader("x-compute-type") == "gpu"
    stages = {stage["name"]: stage["ms"] for stage in server.call("GET", "/startup")[1]["stages"]}
    print(json.dumps(stages))
    assert stages["listen"] < stages["import"] < stages["device"] <= stages["ready"] <= stages["first_token"]
    chat = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": True}
    with server.send("POST", "/v1/chat/completions", chat) as response:
        assert response.read().endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("level", [1, 2])
def test_asleep_it_gives_the_devices_memory_back(server: RuntimeProcess, level: int) -> None:
    first = server.call("POST", "/generate", ASKED)
    awake = used()
    assert order(server, f"/sleep?level={level}") == (200, {"level": level})
    assert used() < awake
    print(f"{awake} MiB awake, {used()} asleep")
    assert order(server, "/wake_up") == (200, {"level": 0})
    assert server.call("POST", "/generate", ASKED) == first


def test_a_process_that_stands_by_takes_a_model_in(wide: Path, server: RuntimeProcess) -> None:
    with RuntimeProcess("", "--standby", "--admin-token", TOKEN, name="") as waiting:
        waiting.listening()
        waiting.wait_log(re.compile("standing by"))
        began = time.monotonic()
        assert order(waiting, "/admin/load", {"model": folder_uri(wide)})[0] == 200
        print(f"taken in within {time.monotonic() - began:.3f} s")
        assert waiting.call("POST", "/generate", ASKED) == server.call("POST", "/generate", ASKED)
