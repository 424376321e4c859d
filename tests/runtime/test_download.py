"""hf:// locations, against a stand-in for the Hub, and the reasons that a process ends with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.hub import COMMIT, Hub
from tests.runtime.process import RuntimeProcess
from zerotide_runtime import commands
from zerotide_runtime.errors import CredentialsMissing, ModelNotFound, OutOfMemory, StartError


@pytest.fixture(scope="module")
def hub(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub") / "files"
    shutil.copytree(tiny, folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle, which nobody wants")
    (folder / "README.md").write_text("hello")
    (folder / "consolidated.safetensors").write_bytes(b"the same weights again")
    with Hub(folder) as made:
        yield made


def environment(hub: Hub, folder: Path, **more: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "ZEROTIDE_CACHE_DIR": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "HF_TOKEN": "",
        **more,
    }


def test_a_model_is_fetched_and_served(hub: Hub, tmp_path: Path) -> None:
    hub.fetched.clear()
    with RuntimeProcess("hf://org/tiny@v1", name="tiny", env=environment(hub, tmp_path)) as server:
        server.ready()
        status, body = server.call("POST", "/generate", {"inputs": "a", "parameters": {"max_new_tokens": 4}})
        assert (status, bool(body["generated_text"])) == (200, True)
        server.terminate()
        assert server.finish() == 0
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(hub.fetched)
    assert not {"pytorch_model.bin", "README.md", "consolidated.safetensors"} & set(hub.fetched)


def end(uri: str, hub: Hub, folder: Path, **more: str) -> tuple[int, str]:
    """Run a server that cannot start; return its exit status and its last line."""
    with RuntimeProcess(uri, env=environment(hub, folder, **more)) as server:
        status = server.finish()
        return status, server.log.strip().rsplit("\n", 1)[-1]


@pytest.mark.parametrize(
    ("uri", "token", "reason"),
    [
        ("hf://org/nothing", "hf_good", "ModelNotFound: the Hub has no model org/nothing"),
        (
            "hf://org/nothing",
            "",
            "CredentialsMissing: the Hub has no public model org/nothing; a private one needs HF_TOKEN",
        ),
        ("hf://org/tiny@v9", "", "ModelNotFound: org/tiny has no revision v9"),
        ("hf://org/gated", "hf_good", "CredentialsMissing: org/gated is gated"),
    ],
)
def test_why_a_model_cannot_be_had(hub: Hub, tmp_path: Path, uri: str, token: str, reason: str) -> None:
    status, line = end(uri, hub, tmp_path, HF_TOKEN=token)
    assert status == 1
    assert line.startswith(f"zerotide-runtime: {reason}")


def test_a_private_model_comes_with_the_token(hub: Hub, tmp_path: Path) -> None:
    with RuntimeProcess("hf://org/private", env=environment(hub, tmp_path, HF_TOKEN="hf_good")) as server:
        assert server.ready().call("GET", "/health")[0] == 200


def test_a_hub_that_is_away(hub: Hub, tmp_path: Path) -> None:
    status, line = end("hf://org/tiny", hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 1
    assert line.startswith("zerotide-runtime: ModelDownloadFailed: org/tiny cannot be fetched: ")


def test_what_is_kept_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    """A cache that outlives the process is read where the Hub is away; which commit it is stays known."""
    for address in (hub.url, "http://127.0.0.1:9"):
        given = environment(hub, tmp_path, HF_ENDPOINT=address)
        with RuntimeProcess("hf://org/tiny@main", name="tiny", env=given) as server:
            server.ready()
            told = server.call("GET", "/startup")[1]["model"]
            assert told["revision"] == COMMIT and told["bytes"] > 0
            server.terminate()
            assert server.finish() == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with RuntimeProcess(f"file://{tmp_path}/none") as server:
        assert server.finish() == 1
    assert server.log.endswith(f"zerotide-runtime: ModelNotFound: there is no model folder at {tmp_path}/none\n")


def test_senseless_settings_end_with_status_two() -> None:
    with RuntimeProcess("s3://bucket/x") as server:
        assert server.finish() == 2
    assert "zerotide-runtime: InvalidSettings: s3://bucket/x has the scheme 's3'" in server.log


def test_the_reason_is_written_where_kubernetes_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setattr(commands, "TERMINATION_LOG", log)
    assert commands.report(ModelNotFound("no such\nthing")) == 1
    assert not log.exists(), "only where the container runtime made one"
    log.touch()
    assert commands.report(CredentialsMissing("no such\nthing")) == 1
    assert json.loads(log.read_text()) == {"reason": "CredentialsMissing", "message": "no such thing"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("x"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), OutOfMemory),
        (ModelNotFound("x"), ModelNotFound),
        (ZeroDivisionError("x"), StartError),
    ],
)
def test_every_failure_has_a_reason(error: Exception, kind: type[StartError]) -> None:
    assert type(commands.as_start_error(error)) is kind
