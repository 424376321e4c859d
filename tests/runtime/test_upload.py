"""Weight files on their way into a device's memory."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.device_memory import HostMemory
from zerotide_runtime.commands import as_start_error
from zerotide_runtime.errors import DeviceFailed, InvalidModel, OutOfMemory
from zerotide_runtime.gpu import driver, upload
from zerotide_runtime.gpu import kernels as compiler
from zerotide_runtime.gpu.loading import computed_here, kernels
from zerotide_runtime.gpu.upload import ALIGNMENT
from zerotide_runtime.weights.mapped import MappedWeights


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", 1000)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("small_pieces")
def test_every_byte_arrives_and_tensors_are_aligned(tmp_path: Path, threads: int) -> None:
    memory, wanted = HostMemory(), [os.urandom(size) for size in (12_345, 1000, 7)]
    paths = []
    for number, content in enumerate(wanted):
        path = tmp_path / str(number)
        path.write_bytes(content)
        paths.append((path, 5 * number))
    files = upload.upload(memory, paths, threads)
    for file, content, (_, data_start) in zip(files, wanted, paths, strict=True):
        assert (file.shift + data_start) % ALIGNMENT == 0
        assert ctypes.string_at(file.address + file.shift, len(content)) == content
        assert file.__cuda_array_interface__["shape"] == (file.shift + len(content),)
    assert not memory.pinned and not memory.queues
    del file, files
    gc.collect()
    assert not memory.held


@pytest.mark.usefixtures("small_pieces")
def test_what_goes_wrong_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    memory = HostMemory(limit=4000)
    with pytest.raises(OutOfMemory, match="used up"):
        upload.upload(memory, [(path, 0)], 2)
    memory.limit = 1 << 30
    read = os.preadv

    def cut_short(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return read(descriptor, buffers, offset) if offset < 3000 else 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", cut_short)
        with pytest.raises(InvalidModel, match="cut short"):
            upload.upload(memory, [(path, 0)], 2)
    gc.collect()
    assert not memory.held and not memory.pinned and not memory.queues


def test_the_files_of_a_model_are_known_with_their_tensors_place(tiny: Path) -> None:
    weights = MappedWeights(tiny)
    ((path, start),) = weights.files
    assert path.parent == tiny and start == min(tensor.begin for tensor in weights.tensors.values())


def test_only_this_engines_models_are_sent_ahead(tiny: Path, tmp_path: Path) -> None:
    assert computed_here(tiny)
    assert not computed_here(tmp_path)
    for text in ("{", "[]", '{"model_type": "gpt2"}'):
        (tmp_path / "config.json").write_text(text)
        assert not computed_here(tmp_path)


def test_a_device_without_a_torch_for_it_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "nvidiactl"
    monkeypatch.setattr(driver, "DEVICES", (str(device),))
    assert not driver.has_gpu()
    device.touch()
    import torch

    assert driver.has_gpu() == (torch.version.cuda is not None)


def test_a_gpu_without_its_drivers_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libnothing.so.1")
    with pytest.raises(DeviceFailed, match="no driver library"):
        driver.Driver()


class Modern:
    """A driver as far as compiling needs one."""

    halves = True
    architecture = "sm_90"

    def load(self, code: bytes, names: tuple[str, ...]) -> None:
        raise AssertionError("there is nothing to load")


def test_without_a_compiler_torchs_own_operations_have_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiler, "SYSTEM", ())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made: Any = Modern()
    assert kernels(made) is None
    assert "no run-time compiler" in caplog.text


def test_a_model_that_does_not_fit_into_the_gpu_is_told_so() -> None:
    error = as_start_error(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert isinstance(error, OutOfMemory) and "take a larger GPU" in str(error)
