"""The GGUF reader and the block formats, against the gguf package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from zerotide_runtime.errors import GGUFError
from zerotide_runtime.weights.dequantise import FORMATS, dequantise
from zerotide_runtime.weights.gguf import TYPES, GGUFFile
from zerotide_runtime.weights.source import unpermute

QUANTISED = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def write_gguf(path: Path, tensors: dict[str, np.ndarray], kind: str = "F32") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 7)
    writer.add_float32("llama.epsilon", 1e-5)
    writer.add_array("names", ["a", "bé", ""])
    writer.add_bool("flag", True)
    quantisation = gguf.GGMLQuantizationType[kind]
    for name, values in tensors.items():
        data = values if kind == "F32" else gguf.quants.quantize(values, quantisation)
        writer.add_tensor(name, data, raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", QUANTISED)
def test_blocks_become_the_numbers_of_the_reference(kind: str) -> None:
    values = np.random.default_rng(1).normal(size=(6, 128)).astype(np.float32)
    data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    flat = np.ascontiguousarray(data).view(np.uint8).ravel()
    np.testing.assert_array_equal(dequantise(flat, kind, (6, 128)), expected)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_any_bytes_are_decoded_like_the_reference(kind: str) -> None:
    size = next(known.size for known in TYPES.values() if known.name == kind)
    blocks = np.random.default_rng(2).integers(0, 256, size=(40, size), dtype=np.uint8)
    blocks[:, 1:4:2] &= 0x3F  # keeps the half-precision scales finite
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(dequantise(blocks.ravel(), kind, (40, 32)), expected)


def test_every_known_type_can_be_decoded() -> None:
    assert {known.name for known in TYPES.values()} == set(FORMATS)


@pytest.mark.parametrize("kind", ["F32", "Q4_1", "Q8_0"])
def test_a_file_is_read_back(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(3).normal(size=(3, 64)).astype(np.float32)
    path = write_gguf(tmp_path / "m.gguf", {"one": values, "two": values * 2}, kind)
    with GGUFFile(path) as file:
        assert file.metadata["llama.block_count"] == 7
        assert file.metadata["names"] == ["a", "bé", ""]
        assert file.metadata["flag"] is True
        info = file.tensors["two"]
        assert info.shape == (3, 64)
        read = dequantise(file.raw("two"), info.type.name, info.shape)
    np.testing.assert_allclose(read, values * 2, atol=0.5)


def test_a_real_file_decodes_like_the_reference(published: Path) -> None:
    from tests.runtime.models import smollm2_gguf

    with GGUFFile(smollm2_gguf()) as file:
        assert len(file.tensors) == 272
        name = "blk.3.ffn_gate.weight"
        info = file.tensors[name]
        expected = gguf.quants.dequantize(file.raw(name).reshape(info.shape[0], -1), gguf.GGMLQuantizationType.Q4_1)
        np.testing.assert_array_equal(dequantise(file.raw(name), "Q4_1", info.shape), expected)


def test_unpermute_undoes_what_the_converter_does() -> None:
    weight = np.arange(2 * 8 * 3, dtype=np.float32).reshape(16, 3)
    permuted = weight.reshape(2, 2, 4, 3).swapaxes(1, 2).reshape(16, 3)
    np.testing.assert_array_equal(unpermute(permuted, heads=2), weight)


def test_what_is_no_gguf_file_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(GGUFError, match="not a GGUF file"):
        GGUFFile(path)


@pytest.mark.parametrize("kept", [20, 100, 300])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"one": np.zeros((4, 64), np.float32)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(GGUFError, match="fetch the file again"):
        GGUFFile(path)


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("one", np.zeros((4, 210), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q6_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(GGUFError, match="format number 14; this reader knows F32"):
        GGUFFile(path)
