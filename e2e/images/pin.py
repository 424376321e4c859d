"""Pin the images that the Dockerfiles build on to the digests that a registry gives for their tags: `make pin-images`.

A digest is never invented: where the registry cannot be reached, nothing is changed and the reason is said.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.images.table import ROOT
from e2e.setup import debian

DOCKERFILES = (ROOT / "operator/Dockerfile", ROOT / "runtime-image/Dockerfile")
SKOPEO = {"skopeo": "skopeo"}
_BASE = re.compile(r"^ARG BASE=(?P<tag>[^\s@]+)(?:@sha256:[0-9a-f]{64})?$", re.MULTILINE)


class RegistryUnreachable(ClusterError):
    """Say which image a registry gave no digest for, and why."""


class NoBase(ClusterError):
    """Say which Dockerfile names no base to pin."""


def digest_of(tag: str, options: tuple[str, ...] = ()) -> str:
    """Return the digest that a registry gives for a tag. Raises RegistryUnreachable."""
    command = ["skopeo", "inspect", *options, "--no-tags", "--format", "{{.Digest}}", f"docker://{tag}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    digest = done.stdout.strip()
    if done.returncode != 0 or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        reason = done.stderr.strip().splitlines()[-1:] or ["no digest came back"]
        raise RegistryUnreachable(f"{tag} keeps its tag, because its registry gave no digest: {reason[0][-500:]}")
    return digest


def pin(dockerfiles: tuple[Path, ...] = DOCKERFILES, options: tuple[str, ...] = ()) -> dict[str, str]:
    """Write each base's digest behind its tag; return the digests. Raises NoBase, RegistryUnreachable."""
    texts = {path: path.read_text() for path in dockerfiles}
    tags = {}
    for path, text in texts.items():
        found = _BASE.search(text)
        if found is None:
            raise NoBase(f"{path} has no line `ARG BASE=<image>:<tag>`")
        tags[path] = found["tag"]
    digests = {tag: digest_of(tag, options) for tag in dict.fromkeys(tags.values())}
    for path, text in texts.items():
        path.write_text(_BASE.sub(f"ARG BASE={tags[path]}@{digests[tags[path]]}", text, count=1))
    return digests


def main() -> int:
    """Pin all, and say to what."""
    debian.ensure(SKOPEO)
    try:
        digests = pin()
    except ClusterError as error:
        print(f"make pin-images: {error}", file=sys.stderr)
        return 1
    for tag, digest in digests.items():
        print(f"{tag}@{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
