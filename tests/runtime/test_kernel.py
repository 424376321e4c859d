"""Products by code of our own: its bytes, its sums, and systems that do not let it be."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotide_runtime.engine import panels
from zerotide_runtime.engine.assembler import Code, Executable, Reg
from zerotide_runtime.engine.kernel import DEEPEST, MOST_ROWS, SHALLOWEST, UNROLLED, WIDE, blocks, depth
from zerotide_runtime.engine.linear import Linear
from zerotide_runtime.engine.panels import Panels, fits

FAR = 0x12345678

# As the GNU assembler writes them.
ENCODED: list[tuple[Callable[[Code], object], str]] = [
    (lambda code: code.copy(Reg.R9, Reg.RSI), "49 89 f1"),
    (lambda code: code.add(Reg.R11, Reg.R8), "4d 01 c3"),
    (lambda code: code.compare(Reg.RAX, Reg.RBP), "48 39 e8"),
    (lambda code: code.set_to(Reg.R8, -2), "49 c7 c0 fe ff ff ff"),
    (lambda code: code.add_number(Reg.R9, FAR), "49 81 c1 78 56 34 12"),
    (lambda code: code.take_number(Reg.RAX, Reg.RDI, FAR), "f0 48 0f c1 87 78 56 34 12"),
    (lambda code: code.take_number(Reg.R10, Reg.R9, FAR), "f0 4d 0f c1 91 78 56 34 12"),
    (lambda code: code.times(Reg.RSI, Reg.RAX, 0x12000), "48 69 f0 00 20 01 00"),
    (lambda code: code.times(Reg.R9, Reg.R10, 0x12000), "4d 69 ca 00 20 01 00"),
    (lambda code: code.load(Reg.RBP, Reg.RDI, FAR), "48 8b af 78 56 34 12"),
    (lambda code: code.load(Reg.R10, Reg.R11, FAR), "4d 8b 93 78 56 34 12"),
    (lambda code: code.push(Reg.RBX), "53"),
    (lambda code: code.pop(Reg.RBP), "5d"),
    (lambda code: code.end(), "c5 f8 77 c3"),
    (lambda code: code.load_floats(30, Reg.R11, FAR), "62 41 7c 48 10 b3 78 56 34 12"),
    (lambda code: code.load_floats(7, Reg.RDX, FAR), "62 f1 7c 48 10 ba 78 56 34 12"),
    (lambda code: code.store_floats(25, Reg.RDX, FAR), "62 61 7c 48 11 8a 78 56 34 12"),
    (lambda code: code.store_floats(9, Reg.R8, FAR), "62 51 7c 48 11 88 78 56 34 12"),
    (lambda code: code.spread_float(29, Reg.R10, FAR), "62 42 7d 48 18 aa 78 56 34 12"),
    (lambda code: code.spread_float(12, Reg.RSI, FAR), "62 72 7d 48 18 a6 78 56 34 12"),
    (lambda code: code.clear_floats(0), "62 f1 7d 48 ef c0"),
    (lambda code: code.clear_floats(26), "62 01 2d 40 ef d2"),
    (lambda code: code.clear_floats(13), "62 51 15 48 ef ed"),
    (lambda code: code.multiply_add(25, 29, 31), "62 02 15 40 b8 cf"),
    (lambda code: code.multiply_add(3, 14, 22), "62 b2 0d 48 b8 de"),
    (lambda code: code.multiply_add(17, 2, 9), "62 c2 6d 48 b8 c9"),
    (lambda code: code.fetch_ahead(Reg.R9, FAR), "41 0f 18 91 78 56 34 12"),
    (lambda code: code.fetch_ahead(Reg.RSI, FAR), "40 0f 18 96 78 56 34 12"),
    (lambda code: code.jump_back(0), "e9 fb ff ff ff"),
    (lambda code: code.jump_back_unless_zero(0), "0f 85 fa ff ff ff"),
    (lambda code: code.land(code.jump_on_if_not_below()), "0f 83 00 00 00 00"),
]
NO_EXECUTABLE_MEMORY = """
import ctypes, torch
from zerotide_runtime.engine.linear import Linear
from zerotide_runtime.engine.panels import fits, machine_can
REFUSE_EXECUTABLE_GAIN = 1
assert ctypes.CDLL(None, use_errno=True).prctl(65, REFUSE_EXECUTABLE_GAIN, 0, 0, 0) == 0
assert not machine_can() and not fits(torch.zeros(32, 64))
weight, values = torch.randn(64, 64), torch.randn(5, 64)
torch.testing.assert_close(Linear(weight)(values), values @ weight.t())
"""

own_code = pytest.mark.skipif(not panels.machine_can(), reason="this processor has no AVX-512")


@pytest.mark.parametrize(("write", "expected"), ENCODED, ids=[hexadecimal for _, hexadecimal in ENCODED])
def test_instructions_are_those_of_the_assembler(write: Callable[[Code], object], expected: str) -> None:
    code = Code()
    write(code)
    assert code.bytes.hex(" ") == expected


@given(st.integers(1, 200))
def test_blocks_are_all_rows_and_of_like_sizes(rows: int) -> None:
    found = blocks(rows)
    assert [row for block in found for row in block] == list(range(rows))
    sizes = [len(block) for block in found]
    assert max(sizes) <= MOST_ROWS
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 20_000))
def test_the_depth_divides_the_inputs(inputs: int) -> None:
    found = depth(inputs)
    if found:
        assert inputs % found == found % UNROLLED == 0
        assert min(inputs, SHALLOWEST) <= found <= DEEPEST
    for usual in (576, 1536, 896, 4864, 2048, 8192, 4096, 14336):
        assert depth(usual) >= SHALLOWEST


@own_code
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 64), st.integers(1, 9), st.integers(1, 120), st.integers(1, 3), st.integers(0, 1 << 30))
def test_products_are_right(rows: int, wide: int, fours: int, threads: int, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, outputs = fours * UNROLLED, wide * WIDE
    weight, values = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    if not depth(inputs):
        assert not fits(weight)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        product = Panels(weight)(values)
    finally:
        torch.set_num_threads(before)
    exact = values.double() @ weight.double().t()
    # A sum in order is off by half a unit in the last place at each of its steps at most.
    bound = inputs * 2.0**-24 * (values.abs().double() @ weight.abs().double().t())
    assert bool(((product.double() - exact).abs() <= bound + 1e-30).all())


@own_code
def test_products_do_not_depend_on_who_shares_the_batch() -> None:
    weight, values = torch.randn(96, 576), torch.randn(40, 576)
    laid_out = Panels(weight)
    whole = laid_out(values)
    for rows in (4, 13, 14, 27):
        assert torch.equal(laid_out(values[:rows]), whole[:rows])
    assert torch.equal(laid_out(values[::2]), whole[::2]), "rows that do not lie side by side"
    assert torch.equal(laid_out(values.view(20, 2, 576)), whole.view(20, 2, 96))


@own_code
def test_what_is_no_number_stays_so() -> None:
    weight, values = torch.randn(32, 64), torch.randn(5, 64)
    values[3, 7] = float("nan")
    values[4, 7] = float("inf")
    product = Panels(weight)(values)
    assert product[:3].isfinite().all()
    assert product[3].isnan().all()
    assert product[4].isinf().all()


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(33, 64), torch.zeros(32, 65), torch.zeros(32, 4 * 101), torch.zeros(32, 64, dtype=torch.bfloat16)],
)
def test_other_matrices_stay_as_they_are(weight: torch.Tensor) -> None:
    assert not fits(weight)


def test_a_bias_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, values = torch.randn(64, 128), torch.randn(64), torch.randn(6, 1, 128)
    expected = torch.nn.functional.linear(values, weight, bias)
    for can in (panels.machine_can(), False):
        monkeypatch.setattr(panels, "machine_can", lambda can=can: can)
        linear = Linear(weight, bias)
        linear.lay_out()
        with torch.inference_mode():
            torch.testing.assert_close(linear(values), expected)


@own_code
def test_code_may_not_change_once_it_may_run() -> None:
    code = Code()
    code.set_to(Reg.RAX, 7)
    code.end()
    executable = Executable(code)
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(executable.address)() == 7
    spans = [line.split()[:2] for line in Path("/proc/self/maps").read_text().splitlines()]
    (rights,) = [
        rights
        for span, rights in spans
        if int(span.split("-")[0], 16) <= executable.address < int(span.split("-")[1], 16)
    ]
    assert rights == "r-xp"


@own_code
def test_where_memory_may_not_become_code_the_library_computes() -> None:
    # A process can be held to this by its own wish, by a security module, or by its runtime.
    script = [sys.executable, "-c", NO_EXECUTABLE_MEMORY]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "products go without code of their own" in done.stderr
