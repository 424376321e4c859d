"""Remove from a folder of installed packages what only compilers and test suites need, and say how much it was."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

# C++ headers and build files of torch, its test programs, and the tests that packages carry along.
FOLDERS = ("torch/include", "torch/share", "torch/test", "bin", "share")
# Written for a newer Python than the one it is compiled with, and imported by its own test only.
FILES = ("torch/testing/_internal/py312_intrinsics.py",)
TEST_FOLDERS = ("tests", "test")
SUFFIXES = (".a", ".lib", ".pyi", ".pxd", ".h", ".cpp", ".cu", ".cuh")


def size(path: Path) -> int:
    """Return the bytes of a file or of everything in a folder."""
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file() and not item.is_symlink())
    return path.lstat().st_size


def unneeded(site: Path) -> list[Path]:
    """List what may go."""
    found = [site / name for name in (*FOLDERS, *FILES) if (site / name).exists()]
    found += [path for path in site.rglob("*") if path.is_dir() and path.name in TEST_FOLDERS]
    found += [path for path in site.rglob("*") if path.is_file() and path.suffix in SUFFIXES]
    return found


def main(site: Path) -> None:
    """Prune one folder."""
    before = size(site)
    for path in unneeded(site):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
    print(f"pruned {(before - size(site)) / 1e6:.0f} of {before / 1e6:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
