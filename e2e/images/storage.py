"""buildah with a storage of its own, in the project's cache; and the local Debian base.

Images are pushed, uncompressed, into folders in the cache: layers that did not change are not written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

from e2e.cluster.errors import CommandFailed
from e2e.cluster.shell import run
from e2e.images.table import BASE
from e2e.tools.table import cache

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
PIECE, WHOLE = 256 << 10, 16 << 20
UNNEEDED = ("doc", "man", "locale", "info", "lintian", "bug", "zoneinfo")


def folder() -> Path:
    """Return the folder of everything that has to do with images."""
    return cache() / "images"


def buildah(*arguments: str) -> list[str]:
    """Return a buildah command line on the project's own storage, whose mounts end with the command."""
    storage = folder() / "storage"
    own = ("--root", str(storage), "--runroot", str(storage / "run"))
    return ["unshare", "--mount", "--", "buildah", *own, *arguments]


def image_id(reference: str) -> str:
    """Return the id of a built image; empty when there is none."""
    done = subprocess.run(buildah("images", "-q", "--no-trunc", reference), capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def ensure_base(say: Any = print) -> str:
    """Make the Debian base once and return its id. Raises CommandFailed."""
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNNEEDED]
    options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", *excluded]
    key = hashlib.sha256(" ".join([SUITE, *options]).encode()).hexdigest()[:12]
    mark = folder() / "base.key"
    if mark.exists() and mark.read_text() == key and (known := image_id(BASE)):
        return known
    folder().mkdir(parents=True, exist_ok=True)
    archive = folder() / f"base-{SUITE}-{key}.tar"
    if not archive.exists():
        say("  base: installing a minimal Debian with Python, about 40 s …")
        part = archive.with_suffix(f".{os.getpid()}.tar")
        run("mmdebstrap", "--quiet", *options, SUITE, str(part))
        part.rename(archive)
    container = run(*buildah("from", "scratch")).strip()
    try:
        run(*buildah("add", "--quiet", container, str(archive), "/"))
        run(
            *buildah(
                "config",
                "--cmd",
                "/bin/bash",
                "--env",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                container,
            )
        )
        run(*buildah("commit", "--quiet", container, BASE))
    finally:
        run(*buildah("rm", container))
    replace(mark, key)
    return image_id(BASE)


def bud(context: Path, target: str, reference: str, arguments: dict[str, str]) -> None:
    """Build a Dockerfile, or one stage of it, without a registry and with pip as this machine has it.

    Raises CommandFailed with the end of the build's output, which lies whole in the log folder.
    """
    flags = [
        "--layers",
        "--pull-never",
        "--network",
        "host",
        "--isolation",
        "chroot",
        "--tag",
        f"localhost/{reference}",
    ]
    for name, value in arguments.items():
        flags += ["--build-arg", f"{name}={value}"]
    if target:
        flags += ["--target", target]
    for source, mounted, mode in pip_mounts():
        flags += ["--volume", f"{source}:{mounted}:{mode}"]
    log = folder() / "log" / f"{reference.replace('/', '-').replace(':', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        command = buildah("bud", *flags, str(context))
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code != 0:
        raise CommandFailed(
            f"building {reference} failed, see {log}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        )


def wheels() -> list[str]:
    """Name the wheels of the cache."""
    return sorted(path.name for path in (cache() / "wheels").glob("*.whl"))


def pip_mounts() -> list[tuple[str, str, str]]:
    """List what lets pip work inside a build as it does on this machine, as (source, target, mode).

    A Dockerfile never depends on it: its own pip commands stay ordinary.
    """
    settings = pip_settings()
    wheels = cache() / "wheels"
    links = settings.get("find-links", "").split()
    if wheels.is_dir():
        links.append(str(wheels))
    if links:
        settings["find-links"] = "\n    " + "\n    ".join(links)
    settings["cache-dir"] = "/root/.cache/pip"
    configuration = folder() / "pip.conf"
    replace(configuration, "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    cached = folder() / "pip-cache"
    cached.mkdir(exist_ok=True)
    mounts = [(str(configuration), "/etc/pip.conf", "ro"), (str(cached), settings["cache-dir"], "rw")]
    paths = {value for value in (*links, settings.get("cert", "")) if value.startswith("/") and Path(value).exists()}
    return mounts + [(path, path, "ro") for path in sorted(paths)]


def pip_settings() -> dict[str, str]:
    """Return the machine's own pip configuration, from its files and its environment."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    settings = {}
    for line in listed.stdout.splitlines():
        name, found, value = line.partition("=")
        if found:
            settings[name.rpartition(".")[2]] = value.strip("'\"")
    return settings


def folder_of(reference: str) -> Path:
    """Return the folder that a pushed image lies in: its manifest, and each blob named by its digest."""
    return folder() / "pushed" / reference.replace("/", "-").replace(":", "-")


def push(reference: str) -> None:
    """Write a built image into its folder. Raises CommandFailed."""
    target = folder_of(reference)
    target.parent.mkdir(parents=True, exist_ok=True)
    run(*buildah("push", "--quiet", "--disable-compression", f"localhost/{reference}", f"dir:{target}"))
    keep = {blob_path(target, blob["digest"]) for blob in blobs(target)}
    for file in target.iterdir():
        if file not in keep and file.name not in ("manifest.json", "version"):
            file.unlink()
    _forget_blobs()


def _forget_blobs() -> None:
    """Remove the notes that a push leaves outside the storage, and their folders if nothing else uses them."""
    notes = Path("/var/lib/containers/cache/blob-info-cache-v1.boltdb")
    notes.unlink(missing_ok=True)
    for above in (notes.parent, notes.parent.parent):
        with contextlib.suppress(OSError):  # not there, or not empty: somebody else's
            above.rmdir()


def manifest(image: Path) -> dict[str, Any]:
    """Return the descriptor of a pushed image's manifest."""
    content = (image / "manifest.json").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": json.loads(content)["mediaType"], "digest": digest, "size": len(content)}


def blob_path(image: Path, digest: str) -> Path:
    """Return the file of a pushed image's blob."""
    return image / digest.partition(":")[2]


def blobs(image: Path) -> list[dict[str, Any]]:
    """List the configuration and the layers of a pushed image."""
    content = json.loads((image / "manifest.json").read_text())
    return [content["config"], *content["layers"]]


def compressed_size(image: Path) -> int:
    """Return about how many bytes a registry would send, reckoned once for each layer."""
    notes = folder() / "compressed"
    notes.mkdir(exist_ok=True)
    total = 0
    for blob in blobs(image):
        note = notes / blob["digest"].partition(":")[2]
        if not note.exists():
            replace(note, str(gzip_size(blob_path(image, blob["digest"]))))
        total += int(note.read_text())
    return total


def replace(file: Path, content: str) -> None:
    """Write a small file in one step, so that nobody reads half of it."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(content)
    part.rename(file)


def gzip_size(path: Path) -> int:
    """Return a file's size under gzip, level 6; of a large one, reckoned from every 16th piece.

    Compressing 540 MB of weights takes longer than all the rest of their image.
    """
    size = path.stat().st_size
    stride = 16 * PIECE if size > WHOLE else PIECE
    with path.open("rb") as file:
        pieces = [os.pread(file.fileno(), PIECE, offset) for offset in range(0, size, stride)]
    seen = sum(map(len, pieces))
    return round(sum(len(zlib.compress(piece, 6)) for piece in pieces) * size / seen) if seen else 0


def archived_digest(archive: Path) -> str:
    """Return the digest of the only image in an OCI archive."""
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        return str(json.loads(index.read())["manifests"][0]["digest"])
