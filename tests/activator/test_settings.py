"""Flags and their environment, and the ends of the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zerotide.activator.failures import SettingsError
from zerotide.activator.settings import parse


def test_defaults_follow_the_namespace() -> None:
    """Names of others are those of one's own namespace."""
    settings = parse([], {"POD_NAMESPACE": "sys", "POD_NAME": "a-1"})
    assert settings.operator_user == "system:serviceaccount:sys:zerotide-operator"
    assert settings.exporter_url == "http://zerotide-exporter.sys.svc:9090"
    assert (settings.port, settings.admin_port, settings.pod_name) == (8080, 9090, "a-1")
    assert (settings.drain_listen, settings.drain_timeout, settings.usage_dir) == (10.0, 900.0, None)


def test_flags_win_over_the_environment() -> None:
    """An empty variable is none."""
    environment = {
        "ZEROTIDE_PORT": "1",
        "ZEROTIDE_USAGE_DIR": "/u",
        "ZEROTIDE_LOG_LEVEL": "",
        "ZEROTIDE_EXPORTER_URL": "none",
    }
    settings = parse(["--port", "2"], environment)
    assert (settings.port, settings.usage_dir, settings.log_level, settings.exporter_url) == (2, Path("/u"), "info", "")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("drain-timeout", "soon"),
        ("log-format", "xml"),
        ("log-level", "loud"),
        ("exporter-url", "exporter:9090"),
        ("limit-head-time", "0s"),
        ("limit-head-bytes", "1"),
        ("limit-body-bytes", "1Gi"),
        ("limit-body-memory", "a lot"),
        ("limit-connections", "0"),
        ("processes", "0"),
        ("proxy-protocol", "on"),
        ("proxy-protocol", "true"),
        ("proxy-protocol-from", "10.0.0.1/8"),
        ("usage-max-bytes", "0"),
        ("usage-max-records", "0"),
        ("usage-max-age", "old"),
        ("hold-total-max-requests", "many"),
        ("hold-consumer-max-bytes", "1GB"),
    ],
)
def test_nonsense_is_named(flag: str, value: str) -> None:
    """The message says which flag, and what it should be."""
    with pytest.raises(SettingsError, match=f"--{flag}"):
        parse([f"--{flag}", value], {})


def test_the_process_says_what_is_wrong() -> None:
    """Exit 2 and one line for nonsense, exit 1 where there is no cluster."""
    command = [sys.executable, "-m", "zerotide.activator"]
    told = subprocess.run([*command, "--port", "x"], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (2, "zerotide.activator: --port 'x': give a number from 0 to 65535\n")
    environment = {"KUBECONFIG": "/nonexistent", "PATH": "/usr/bin:/bin"}
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert told.returncode == 1
    assert "no usable kubeconfig" in json.loads(told.stderr.splitlines()[-1])["error"]
