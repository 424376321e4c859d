"""Credentials are found, re-read when they rotate, and missed with a clear word."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerotide.kube import CredentialsError, TokenFile, load_credentials


def test_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    """The kubelet replaces projected tokens in place."""
    file, now = tmp_path / "token", [0.0]
    file.write_text("first\n")
    token = TokenFile(file, clock=lambda: now[0], every=30)
    assert token() == "first"
    file.write_text("second\n")
    now[0] = 29
    assert token() == "first"
    now[0] = 30
    assert token() == "second"


def test_a_lost_file_keeps_the_last_token(tmp_path: Path) -> None:
    """A remount must not cut a running process off."""
    file, now = tmp_path / "token", [0.0]
    file.write_text("first")
    token = TokenFile(file, clock=lambda: now[0])
    assert token() == "first"
    file.unlink()
    now[0] = 100
    assert token() == "first"


def test_a_file_that_never_was_is_named(tmp_path: Path) -> None:
    """The message tells which file to provide."""
    with pytest.raises(CredentialsError, match="absent"):
        TokenFile(tmp_path / "absent")()


async def test_without_a_kubeconfig_the_error_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new user meets this first."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CredentialsError, match="nowhere"):
        await load_credentials()
