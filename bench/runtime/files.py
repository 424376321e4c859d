"""Print where the model's files are, made where they are missing, as JSON. Run with .venv-runtime."""

from __future__ import annotations

import json
from pathlib import Path

from bench.runtime.widen import widen
from tests.runtime.models import smollm2, smollm2_gguf

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Publish SmolLM2, and write its GGUF file with float32 tensors."""
    wide = ROOT / ".build" / "bench" / "smollm2-f32.gguf"
    if not wide.exists():
        wide.parent.mkdir(parents=True, exist_ok=True)
        widen(smollm2_gguf(), wide)
    print(json.dumps({"published": str(smollm2()), "wide": str(wide)}))


if __name__ == "__main__":
    main()
