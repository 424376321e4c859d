"""Leave the generated models and APIs of the kubernetes package out of the image: 100 MB that nothing here calls.

Usage: python3 trim_kubernetes.py SITE_PACKAGES. What kopf and the credentials import is found by importing it; every
other generated module goes. The image build imports all of it again afterwards.
"""

from __future__ import annotations

import sys
from pathlib import Path

site = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(site))
sys.dont_write_bytecode = True

import kopf  # noqa: E402, F401
import kubernetes.aio.client  # noqa: E402
import kubernetes.aio.config  # noqa: E402
import kubernetes.config  # noqa: E402, F401

used = {str(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
removed = 0
for generated in ("client/models", "client/api", "aio/client/models", "aio/client/api"):
    for source in (site / "kubernetes" / generated).glob("*.py"):
        if source.name != "__init__.py" and str(source) not in used:
            removed += source.stat().st_size
            source.unlink()
print(f"kubernetes: {removed / 1e6:.0f} MB of generated modules left out")
