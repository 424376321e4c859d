"""The product of a few rows with a weight matrix, as machine code made for its sizes.

While a part of the matrix is multiplied with one row after another, the next part is on its way from memory. A library
waits for it instead: its first rows stall on memory, and the others find memory idle. Each sum is over the
inputs in their order, each step rounded once.

The matrix lies in panels of 32 outputs, [panels, inputs, 32]. Threads take panels by a common number, so that one that
comes late holds nobody up.
"""

from __future__ import annotations

import ctypes
from itertools import pairwise

from zerotide_runtime.engine.assembler import Code, Executable, Reg

WIDE = 32  # outputs of a panel: two vector registers
MOST_ROWS = 13  # at once: with two registers each, and five for the others, that fill the 32
DEEPEST = 192  # inputs at once: what then comes again and again fits the first cache
SHALLOWEST = 64
UNROLLED = 4
LINE, FLOAT = 64, 4
SPREAD, LEFT, RIGHT = 29, 30, 31


class Task(ctypes.Structure):
    """What a kernel is told; `taken` counts the panels that a thread has begun."""

    _fields_ = (
        ("taken", ctypes.c_int64),
        ("panels", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
    )


def depth(inputs: int) -> int:
    """Return how many inputs to take at once; 0 where no number divides them well."""
    fitting = [n for n in range(UNROLLED, min(inputs, DEEPEST) + 1, UNROLLED) if inputs % n == 0]
    return max(fitting, default=0) if inputs <= DEEPEST or max(fitting, default=0) >= SHALLOWEST else 0


def blocks(rows: int) -> list[range]:
    """Divide rows into as few blocks as there can be, of like sizes."""
    count = -(-rows // MOST_ROWS)
    bounds = [rows * number // count for number in range(count + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]


class Kernel:
    """Code for products of [rows, inputs] with matrices of a number of outputs; a C function of a Task's address."""

    def __init__(self, rows: int, inputs: int, outputs: int) -> None:
        self._blocks = blocks(rows)
        self._inputs, self._outputs, self._depth = inputs, outputs, depth(inputs)
        self._code = Code()
        self._write()
        self._executable = Executable(self._code)
        self.address = self._executable.address

    def _write(self) -> None:
        code = self._code
        for register in (Reg.RBX, Reg.RBP):
            code.push(register)
        code.load(Reg.RBP, Reg.RDI, Task.panels.offset)
        code.load(Reg.RBX, Reg.RDI, Task.values.offset)
        again = code.here()
        code.set_to(Reg.RAX, 1)
        code.take_number(Reg.RAX, Reg.RDI, Task.taken.offset)
        code.compare(Reg.RAX, Reg.RBP)
        done = code.jump_on_if_not_below()
        code.times(Reg.RSI, Reg.RAX, WIDE * self._inputs * FLOAT)
        code.load(Reg.RCX, Reg.RDI, Task.weights.offset)
        code.add(Reg.RSI, Reg.RCX)
        code.times(Reg.RDX, Reg.RAX, WIDE * FLOAT)
        code.load(Reg.RCX, Reg.RDI, Task.sums.offset)
        code.add(Reg.RDX, Reg.RCX)
        code.copy(Reg.R10, Reg.RBX)
        self._part(first=True)
        rest = self._inputs // self._depth - 1
        if rest:
            code.set_to(Reg.R8, rest)
            part = code.here()
            self._part(first=False)
            code.add_number(Reg.R8, -1)
            code.jump_back_unless_zero(part)
        code.jump_back(again)
        code.land(done)
        for register in (Reg.RBP, Reg.RBX):
            code.pop(register)
        code.end()

    def _part(self, *, first: bool) -> None:
        """Multiply a part of a panel, at rsi, with all rows, from r10 on, into or onto the sums at rdx."""
        code, size = self._code, self._depth * WIDE * FLOAT
        code.copy(Reg.R9, Reg.RSI)
        code.add_number(Reg.R9, size)
        for number, block in enumerate(self._blocks):
            # The part that follows has two lines for each input: one for each of two blocks, or both for a lone one.
            lines = 2 if len(self._blocks) == 1 else int(number < 2)
            self._tile(block, lines, first=first)
        code.add_number(Reg.R10, self._depth * FLOAT)
        code.add_number(Reg.RSI, size)

    def _tile(self, block: range, lines: int, *, first: bool) -> None:
        code = self._code
        places = [
            (2 * number + half, row * self._outputs * FLOAT + half * LINE)
            for number, row in enumerate(block)
            for half in range(2)
        ]
        for register, place in places:
            if first:
                code.clear_floats(register)
            else:
                code.load_floats(register, Reg.RDX, place)
        code.copy(Reg.R11, Reg.RSI)
        code.set_to(Reg.RAX, self._depth // UNROLLED)
        again = code.here()
        for step in range(UNROLLED):
            code.load_floats(LEFT, Reg.R11, step * WIDE * FLOAT)
            code.load_floats(RIGHT, Reg.R11, step * WIDE * FLOAT + LINE)
            for line in range(lines):
                code.fetch_ahead(Reg.R9, (step * lines + line) * LINE)
            for number, row in enumerate(block):
                code.spread_float(SPREAD, Reg.R10, (row * self._inputs + step) * FLOAT)
                code.multiply_add(2 * number, SPREAD, LEFT)
                code.multiply_add(2 * number + 1, SPREAD, RIGHT)
        if lines:
            code.add_number(Reg.R9, UNROLLED * lines * LINE)
        code.add_number(Reg.R10, UNROLLED * FLOAT)
        code.add_number(Reg.R11, UNROLLED * WIDE * FLOAT)
        code.add_number(Reg.RAX, -1)
        code.jump_back_unless_zero(again)
        code.add_number(Reg.R10, -self._depth * FLOAT)
        for register, place in places:
            code.store_floats(register, Reg.RDX, place)
