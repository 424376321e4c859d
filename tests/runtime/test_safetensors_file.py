"""Our safetensors reader and writer, against the safetensors package and torch's conversions."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from zerotide_runtime.errors import InvalidModel
from zerotide_runtime.weights.numeric import from_float32, to_float32
from zerotide_runtime.weights.order import execution_order
from zerotide_runtime.weights.safetensors_file import PAGE, read_header, write


def test_others_read_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)
    write(path, [("b", "F32", (2, 3)), ("a", "F32", (4,))], [first.tobytes(), second.tobytes()])
    read = load_file(path)
    assert read["b"].tolist() == first.tolist()
    assert read["a"].tolist() == second.tolist()
    assert read_header(path)["b"].begin % PAGE == 0, "the data starts at a page"
    assert read_header(path)["a"].begin == read_header(path)["b"].end, "in the order given, without gaps"


def test_we_read_what_others_write(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"x": torch.arange(10, dtype=torch.bfloat16).reshape(2, 5)}, path)
    entry = read_header(path)["x"]
    assert (entry.dtype, entry.shape) == ("BF16", (2, 5))
    assert to_float32(path.read_bytes()[entry.begin : entry.end], "BF16").tolist() == list(range(10))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1), st.sampled_from(["BF16", "F16", "F32"]))
def test_numbers_are_rounded_like_torch_does(values: list[float], dtype: str) -> None:
    kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    array = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        raw = from_float32(array, dtype)
    expected = torch.tensor(array).to(kinds[dtype])
    assert raw == expected.view(torch.uint8).numpy().tobytes()
    np.testing.assert_array_equal(to_float32(raw, dtype), expected.float().numpy())


def test_not_a_number_stays_none() -> None:
    assert np.isnan(to_float32(from_float32(np.array([np.nan], np.float32), "BF16"), "BF16")).all()


def test_whole_numbers_are_no_weights() -> None:
    with pytest.raises(InvalidModel, match="type I64"):
        to_float32(b"\0" * 8, "I64")


def broken(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        broken(b"{nonsense"),
        broken({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 4),
        broken({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"\0" * 8),
        broken({"x": {"dtype": "Q9", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
        broken({"x": {"shape": [2]}}),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidModel):
        read_header(path)


def test_the_writer_checks_its_own_sum(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hold 4 bytes where the header says 8"):
        write(tmp_path / "m", [("x", "F32", (2,))], [b"\0" * 4])


def test_weights_are_stored_in_the_order_of_use() -> None:
    names = ["lm_head.weight", "model.layers.10.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
    names += [f"model.layers.2.self_attn.{part}_proj.weight" for part in "okvq"] + ["model.layers.2.x.weight"]
    assert execution_order(names) == [
        "model.embed_tokens.weight",
        "model.layers.2.self_attn.q_proj.weight",
        "model.layers.2.self_attn.k_proj.weight",
        "model.layers.2.self_attn.v_proj.weight",
        "model.layers.2.self_attn.o_proj.weight",
        "model.layers.2.x.weight",
        "model.layers.10.mlp.up_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ]
