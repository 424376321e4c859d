"""`zerotide bench` on a real model that it puts to sleep itself: the cold start is counted, and the bill is known."""

from __future__ import annotations

import json
import os

import pytest

from e2e.harness import System, smollm2
from zerotide.cli.main import main


def test_a_load_test_from_zero(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Awake first and then asleep: tokens are those of the runtime, times are in order, and each second is paid for."""
    namespace = system.namespace()
    system.endpoint(namespace, "smollm2", smollm2(idle="10m"))
    system.wait_state(namespace, "smollm2", "Asleep")
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(system.kubeconfig))
    monkeypatch.setitem(os.environ, "ZEROTIDE_GATEWAY", system.gateway)
    line = ["bench", "smollm2", "-n", namespace, "--key", system.key(namespace, "tester"), "--max-tokens", "8"]
    line += ["--duration", "5m"]  # the numbers of requests end it, however slow the machine
    assert main([*line, "--at-once", "2", "--requests", "4"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("TIME") and "One request came first and woke it" in err
    assert ": 4 answered." in err and "The endpoint cost " in err
    assert main([*line, "--cold", "--at-once", "1", "--requests", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["answered"], told["errors"], told["cold"]) == (3, {}, 1)
    assert told["outputTokens"] <= 24 and told["inputTokens"] > 30
    # Of all three; that the cold one is the slowest cannot be asked of a machine that others use as well.
    assert (told["coldFirstToken"]["count"], told["firstToken"]["count"]) == (1, 3)
    assert 0 < told["coldFirstToken"]["max"] <= told["firstToken"]["max"]
    assert float(told["cost"]["total"]) > 0 and told["cost"]["currency"] == "USD"
    system.wait_state(namespace, "smollm2", "Awake")
