"""Images are rebuilt when their inputs change, and named as the kubelet looks for them."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.images import storage
from e2e.images.archive import compile_static, write_archive
from e2e.images.load import index, save
from e2e.images.prune import superseded
from e2e.images.table import DockerImage, in_cluster


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("zerotide/operator:dev", "docker.io/zerotide/operator:dev"),
        ("localhost/zerotide/pause:1", "localhost/zerotide/pause:1"),
        ("registry.example:5000/a:1", "registry.example:5000/a:1"),
        ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
    ],
)
def test_names_get_the_defaults_of_docker(reference: str, expected: str) -> None:
    """A pod's `zerotide/operator:dev` means docker.io's."""
    assert in_cluster(reference) == expected


def test_a_fingerprint_follows_content_modes_and_bases_only(tmp_path: Path) -> None:
    """Byte code and time stamps do not cause a build; a changed file, mode or base does."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    code = tmp_path / "code.py"
    code.write_text("x = 1\n")
    image = DockerImage("x", "x:dev", tmp_path)
    first = image.fingerprint("base1")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "code.pyc").write_bytes(b"1")
    code.touch()
    assert image.fingerprint("base1") == first
    assert image.fingerprint("base1", ["torch-1.whl"]) == first  # it does not hold torch
    assert replace(image, torch=True).fingerprint("base1", ["torch-1.whl"]) != first
    seen = {first, image.fingerprint("base2")}
    code.chmod(0o755)
    seen.add(image.fingerprint("base1"))
    code.write_text("x = 2\n")
    seen.add(image.fingerprint("base1"))
    assert len(seen) == 4


def test_a_small_image_is_an_oci_archive_with_one_program(tmp_path: Path) -> None:
    """Its digest can be read back, and its name is the cluster's."""
    archive = tmp_path / "image.tar"
    write_archive(archive, "docker.io/zerotide/x:dev", "x", b"\x7fELF", {"User": "1:1"})
    with tarfile.open(archive) as tar:
        described = json.loads(tar.extractfile("index.json").read())["manifests"][0]  # type: ignore[union-attr]
        manifest = json.loads(tar.extractfile(f"blobs/{described['digest'].replace(':', '/')}").read())  # type: ignore[union-attr]
        config = json.loads(tar.extractfile(f"blobs/{manifest['config']['digest'].replace(':', '/')}").read())  # type: ignore[union-attr]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/zerotide/x:dev"
    assert config["config"] == {"Entrypoint": ["/x"], "User": "1:1"}
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert storage.archived_digest(archive) == described["digest"]


def test_the_index_of_a_pushed_image_names_it_for_the_cluster() -> None:
    """containerd takes the name from the index."""
    described = index({"digest": "sha256:0", "size": 1}, "zerotide/operator:dev")["manifests"][0]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/zerotide/operator:dev"
    assert described["digest"] == "sha256:0"


def test_a_built_image_is_saved_whole_and_named_for_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ctr images import`, which kind runs, takes it: every blob under its digest, and the name in the index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pushed = storage.folder_of("zerotide/operator:dev")
    pushed.mkdir(parents=True)
    blobs = {hashlib.sha256(content).hexdigest(): content for content in (b"{}", b"one layer", b"another")}
    for name, content in blobs.items():
        (pushed / name).write_bytes(content)
    config, *layers = ({"digest": f"sha256:{name}", "size": len(content)} for name, content in blobs.items())
    manifest = json.dumps(
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}
    )
    (pushed / "manifest.json").write_text(manifest)
    archive = save("operator", tmp_path)
    assert archive.name == "zerotide-operator-dev.tar"
    with tarfile.open(archive) as tar:
        held = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    described = json.loads(held["index.json"])["manifests"][0]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/zerotide/operator:dev"
    assert held[f"blobs/{described['digest'].replace(':', '/')}"] == manifest.encode()
    assert {held[f"blobs/sha256/{name}"] for name in blobs} == set(blobs.values())


def test_a_program_that_does_not_compile_shows_the_compilers_words(tmp_path: Path) -> None:
    """The error holds what gcc said."""
    from e2e.cluster.errors import CommandFailed

    source = tmp_path / "broken.c"
    source.write_text("int main(void) { return nothing; }")
    with pytest.raises(CommandFailed, match="nothing"):
        compile_static(source, tmp_path / "broken")


def test_pip_in_a_build_is_set_up_as_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local folders that pip's settings name are mounted; the project's wheels are among its links."""
    links, certificate = tmp_path / "links", tmp_path / "ca.crt"
    links.mkdir()
    certificate.touch()
    (tmp_path / "zerotide" / "wheels").mkdir(parents=True)
    (tmp_path / "zerotide" / "images").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = {"find-links": f"{links} https://wheels.example/simple", "cert": str(certificate)}
    monkeypatch.setattr(storage, "pip_settings", lambda: settings)
    mounts = {target: (source, mode) for source, target, mode in storage.pip_mounts()}
    wheels = str(tmp_path / "zerotide" / "wheels")
    assert {target for target in mounts if target.startswith(str(tmp_path))} == {str(links), str(certificate), wheels}
    written = Path(mounts["/etc/pip.conf"][0]).read_text()
    assert all(text in written for text in (str(links), "https://wheels.example/simple", wheels))
    assert mounts[str(links)][1] == "ro"


@pytest.mark.parametrize("megabytes", [0, 1, 24])
def test_the_size_that_a_registry_would_send_is_reckoned_well(tmp_path: Path, megabytes: int) -> None:
    """A large file is not compressed whole, and yet the figure is right within a few percent."""
    rng = random.Random(1)
    half = (rng.randbytes(1 << 10) + bytes(1 << 10) for _ in range(megabytes << 9))
    layer = tmp_path / "layer"
    layer.write_bytes(b"".join(half))
    assert storage.gzip_size(layer) == pytest.approx(len(zlib.compress(layer.read_bytes(), 6)), rel=0.05, abs=16)


def test_layers_that_no_newest_build_names_are_superseded() -> None:
    """Logs shorten ids; an image is kept when any of them names it."""
    kept, gone = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"
    logs = ["[2/3] STEP 4/5: COPY a b", f"--> Using cache {'ef' * 32}", f"--> {('ab' * 32)[:11]}"]
    assert superseded([kept, gone], logs) == [gone]
    assert superseded([kept, gone], []) == [kept, gone]
