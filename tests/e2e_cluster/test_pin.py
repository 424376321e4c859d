"""Base images are pinned to what a real registry says, and to nothing else."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.images.archive import static_image
from e2e.images.pin import SKOPEO, NoBase, RegistryUnreachable, pin
from e2e.images.table import IMAGES, StaticImage
from e2e.setup import debian

PLAIN = ("--tls-verify=false",)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Run Debian's registry with one image in it; yield the image's tag."""
    debian.ensure({**debian.ALL, **SKOPEO})
    program, port = registry_program(tmp_path), free_port()
    settings = tmp_path / "registry.yml"
    root = tmp_path / "registry"
    settings.write_text(
        f"version: 0.1\nhttp: {{addr: '127.0.0.1:{port}'}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n"
    )
    command = [str(program), "serve", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5):
                    break
                time.sleep(0.05)
            tag = f"127.0.0.1:{port}/library/debian:bookworm-slim"
            copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
            subprocess.run([*copy, f"oci-archive:{archive()}", f"docker://{tag}"], check=True)
            yield tag
        finally:
            process.terminate()


def registry_program(folder: Path) -> Path:
    """Unpack Debian's registry; installing it would start a service for good."""
    download = ["apt-get", "download", "-qq", "docker-registry"]
    if subprocess.run(download, cwd=folder).returncode != 0:  # no package lists yet
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(download, cwd=folder, check=True)
    (package,) = folder.glob("docker-registry_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "unpacked")], check=True)
    return folder / "unpacked/usr/bin/docker-registry"


def archive() -> Path:
    """Return an image's archive."""
    image = IMAGES["trivial"]
    assert isinstance(image, StaticImage)
    return static_image(image.reference, image.source, dict(image.config))


def said_by(tag: str) -> str:
    """Return the digest that a registry sends along with a tag's manifest."""
    host, _, rest = tag.partition("/")
    name, _, version = rest.rpartition(":")
    accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    asked = urllib.request.Request(f"http://{host}/v2/{name}/manifests/{version}", headers=accepted)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return str(answer.headers["Docker-Content-Digest"])


@pytest.mark.cluster
def test_a_tag_gets_the_registrys_digest_and_keeps_its_name(registry: str, tmp_path: Path) -> None:
    """Pinning again changes nothing."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"# A comment\nARG BASE={registry}\nFROM ${{BASE}} AS python\n")
    digests = pin((dockerfile,), PLAIN)
    assert digests == {registry: said_by(registry)}
    pinned = dockerfile.read_text()
    assert pinned == f"# A comment\nARG BASE={registry}@{digests[registry]}\nFROM ${{BASE}} AS python\n"
    assert pin((dockerfile,), PLAIN) == digests and dockerfile.read_text() == pinned


@pytest.mark.cluster
def test_without_a_registry_nothing_is_changed_and_the_reason_is_said(registry: str, tmp_path: Path) -> None:
    """Not even the file whose base could be found."""
    known, unknown = tmp_path / "known", tmp_path / "unknown"
    known.write_text(f"ARG BASE={registry}\n")
    unknown.write_text(f"ARG BASE=127.0.0.1:{free_port()}/debian:bookworm\n")
    with pytest.raises(RegistryUnreachable, match=r"keeps its tag, because its registry gave no digest: .*refused"):
        pin((known, unknown), PLAIN)
    assert known.read_text() == f"ARG BASE={registry}\n"


def test_a_dockerfile_without_a_base_is_named(tmp_path: Path) -> None:
    """There would be nothing to pin."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\n")
    with pytest.raises(NoBase, match="has no line"):
        pin((dockerfile,))
