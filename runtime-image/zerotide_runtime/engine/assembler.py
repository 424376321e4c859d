"""Machine code of x86-64 with AVX-512: the dozen instructions that a product needs, as bytes.

Addresses are always a register and a distance of 32 bits, which any encoding has room for.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from enum import IntEnum


class Reg(IntEnum):
    """General registers that take no special encoding as the base of an address."""

    RAX, RCX, RDX, RBX = 0, 1, 2, 3
    RBP, RSI, RDI, R8, R9, R10, R11 = 5, 6, 7, 8, 9, 10, 11


class Code:
    """Instructions one after the other; vector registers are numbers from 0 to 31, of 16 floats each."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def here(self) -> int:
        """Return where the next instruction begins."""
        return len(self.bytes)

    def _emit(self, *values: int) -> None:
        self.bytes += bytes(values)

    def _address(self, register: int, base: Reg, distance: int) -> None:
        self._emit(0x80 | (register & 7) << 3 | (base & 7))
        self.bytes += struct.pack("<i", distance)

    # General registers, 64 bits wide.

    def _general(self, opcode: int, register: int, other: Reg) -> None:
        self._emit(0x48 | (register >> 3) << 2 | other >> 3, opcode, 0xC0 | (register & 7) << 3 | (other & 7))

    def copy(self, target: Reg, source: Reg) -> None:
        """Set target to source."""
        self._general(0x89, source, target)

    def add(self, target: Reg, source: Reg) -> None:
        """Add source to target."""
        self._general(0x01, source, target)

    def compare(self, one: Reg, other: Reg) -> None:
        """Compare two registers for the jump that follows."""
        self._general(0x39, other, one)

    def set_to(self, target: Reg, value: int) -> None:
        """Set target to a number."""
        self._general(0xC7, 0, target)
        self.bytes += struct.pack("<i", value)

    def add_number(self, target: Reg, value: int) -> None:
        """Add a number, and note for a jump whether the sum is zero."""
        self._general(0x81, 0, target)
        self.bytes += struct.pack("<i", value)

    def times(self, target: Reg, source: Reg, value: int) -> None:
        """Set target to source times a number."""
        self._general(0x69, target, source)
        self.bytes += struct.pack("<i", value)

    def load(self, target: Reg, base: Reg, distance: int) -> None:
        """Set target to what memory holds."""
        self._emit(0x48 | (target >> 3) << 2 | base >> 3, 0x8B)
        self._address(target, base, distance)

    def take_number(self, target: Reg, base: Reg, distance: int) -> None:
        """Add target to memory, and set target to what was there, as one step among threads."""
        self._emit(0xF0, 0x48 | (target >> 3) << 2 | base >> 3, 0x0F, 0xC1)
        self._address(target, base, distance)

    def push(self, register: Reg) -> None:
        """Keep a register of the first eight on the stack."""
        self._emit(0x50 | register)

    def pop(self, register: Reg) -> None:
        """Take a register of the first eight from the stack."""
        self._emit(0x58 | register)

    # Jumps.

    def jump_back_unless_zero(self, place: int) -> None:
        """Go on at an earlier place unless the last sum was zero."""
        self._emit(0x0F, 0x85)
        self.bytes += struct.pack("<i", place - self.here() - 4)

    def jump_back(self, place: int) -> None:
        """Go on at an earlier place."""
        self._emit(0xE9)
        self.bytes += struct.pack("<i", place - self.here() - 4)

    def jump_on_if_not_below(self) -> int:
        """Go on elsewhere if the compared register is not below the other; return what `land` needs."""
        self._emit(0x0F, 0x83, 0, 0, 0, 0)
        return self.here()

    def land(self, jump: int) -> None:
        """Let a jump end here."""
        self.bytes[jump - 4 : jump] = struct.pack("<i", self.here() - jump)

    def end(self) -> None:
        """Return to the caller, with the vector registers as others expect them."""
        self._emit(0xC5, 0xF8, 0x77, 0xC3)

    # Vector registers.

    def _vector(self, space: int, prefix: int, opcode: int, register: int, second: int, third: int, high: int) -> None:
        """Write a prefix of four bytes and the opcode; `third` and `high` are bits 3 and 4 of the last operand."""
        outer = (~register & 8) << 4 | (~high & 1) << 6 | (~third & 8) << 2 | (~register & 16) | space
        self._emit(0x62, outer, (~second & 15) << 3 | 4 | prefix, 0x40 | (~second & 16) >> 1, opcode)

    def load_floats(self, target: int, base: Reg, distance: int) -> None:
        """Load 16 floats."""
        self._vector(1, 0, 0x10, target, 0, base, 0)
        self._address(target, base, distance)

    def store_floats(self, source: int, base: Reg, distance: int) -> None:
        """Store 16 floats."""
        self._vector(1, 0, 0x11, source, 0, base, 0)
        self._address(source, base, distance)

    def spread_float(self, target: int, base: Reg, distance: int) -> None:
        """Load one float into all 16 places."""
        self._vector(2, 1, 0x18, target, 0, base, 0)
        self._address(target, base, distance)

    def clear_floats(self, target: int) -> None:
        """Set 16 floats to zero."""
        self._vector(1, 1, 0xEF, target, target, target, target >> 4)
        self._emit(0xC0 | (target & 7) << 3 | (target & 7))

    def multiply_add(self, target: int, one: int, other: int) -> None:
        """Add the products of 16 pairs, each rounded once."""
        self._vector(2, 1, 0xB8, target, one, other, other >> 4)
        self._emit(0xC0 | (target & 7) << 3 | (other & 7))

    def fetch_ahead(self, base: Reg, distance: int) -> None:
        """Ask for 64 bytes of memory, which need not exist, to be in the second cache soon."""
        self._emit(0x40 | base >> 3, 0x0F, 0x18)
        self._address(2, base, distance)


class Executable:
    """Finished code in memory that may run but not change; raise OSError where the system forbids it."""

    def __init__(self, code: Code) -> None:
        self._memory = mmap.mmap(-1, len(code.bytes), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.write(code.bytes)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if protect(self.address, len(self._memory), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            raise OSError(ctypes.get_errno(), "memory cannot be made executable")
