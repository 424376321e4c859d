"""Sleep and wake of one process, and a process that stands by and takes a model in."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.process import RuntimeProcess, folder_uri
from tests.runtime.test_engine import WAIT, Recorder, Started, collect, make
from tests.runtime.test_quick import quick_runner
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.execution import Execution, Succession
from zerotide_runtime.engine.request import Event
from zerotide_runtime.errors import SettingsError
from zerotide_runtime.server.admin import read_order
from zerotide_runtime.settings import read_settings

TOKEN = "s3cret"
ASKED = {"inputs": "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"}


def order(server: RuntimeProcess, path: str, content: Any = None, token: str = TOKEN) -> tuple[int, Any]:
    """Give an order with a token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT * 3)
    connection.request("POST", path, json.dumps(content), {"authorization": f"Bearer {token}"})
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def resident(server: RuntimeProcess) -> int:
    """Return a process's resident memory in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) >> 10  # type: ignore[index]


class Sleeper(Started):
    """An engine on the quick path that counts its loads and releases."""

    def __init__(self, tiny: Path) -> None:
        self.recorder = Recorder()
        self.loads = 0
        self.released: list[int] = []
        self._tiny = tiny
        self.engine = Engine(self._load, 4, self.recorder, time.monotonic, self.released.append)

    def _load(self) -> tuple[Execution, Succession | None]:
        self.loads += 1
        return quick_runner(self._tiny), None


def test_what_runs_ends_before_the_sleep_and_what_waits_goes_on_after_it(tiny: Path) -> None:
    with Sleeper(tiny) as sleeper:
        running, events = make([1, 2], 200)
        sleeper.engine.submit(running)
        events.get(timeout=WAIT)
        sleeper.engine.sleep(1)
        late, late_events = make([3], 3)
        sleeper.engine.submit(late)
        assert len(collect(events)) == 199
        assert sleeper.recorder.asleep.wait(WAIT)
        assert (sleeper.released, late.answer) == ([1], [])
        sleeper.recorder.asleep.clear()
        sleeper.engine.sleep(2)
        assert sleeper.recorder.asleep.wait(WAIT)
        assert (sleeper.released, sleeper.loads) == ([1, 2], 1)
        sleeper.engine.wake_up()
        assert len(collect(late_events)) == 3
        assert sleeper.loads == 2


def test_who_is_woken_before_it_sleeps_goes_on(tiny: Path) -> None:
    with Sleeper(tiny) as sleeper:
        running, events = make([1, 2], 30)
        begun, go_on = threading.Event(), threading.Event()

        def sink(event: Event) -> None:
            events.put(event)
            begun.set()
            go_on.wait(WAIT)  # in the middle of a step

        running.sink = sink
        sleeper.engine.submit(running)
        assert begun.wait(WAIT)
        sleeper.engine.sleep(2)
        sleeper.recorder.ready.clear()
        sleeper.engine.wake_up()
        assert sleeper.recorder.ready.is_set()
        go_on.set()
        assert len(collect(events)) == 30
        assert (sleeper.loads, sleeper.released) == (1, [])


def test_a_sleeping_engine_can_be_stopped(tiny: Path) -> None:
    with Sleeper(tiny) as sleeper:
        sleeper.engine.sleep(1)
        assert sleeper.recorder.asleep.wait(WAIT)
    assert sleeper.loads == 1


def test_asleep_it_holds_no_weights_and_awake_it_answers_as_before(published: Path) -> None:
    with RuntimeProcess(folder_uri(published), "--admin-token", TOKEN) as server:
        server.ready()
        asked = {**ASKED, "parameters": {"max_new_tokens": 8}}
        first = server.call("POST", "/generate", asked)
        assert "Paris" in first[1]["generated_text"]
        awake = resident(server)
        assert order(server, "/sleep?level=1") == (200, {"level": 1})
        assert order(server, "/sleep?level=2") == (200, {"level": 2})
        assert server.call("GET", "/is_sleeping") == (200, {"is_sleeping": True, "level": 2})
        assert server.call("GET", "/health")[0] == 503
        deadline = time.monotonic() + WAIT
        while resident(server) > awake - 200 and time.monotonic() < deadline:
            time.sleep(0.1)  # torch may be on its way in, and holds the arrays until it is there
        assert resident(server) < awake - 200, "the weights are 513 MiB, torch is 200"
        held: list[Any] = []
        client = threading.Thread(target=lambda: held.append(server.call("POST", "/generate", asked)))
        client.start()
        assert order(server, "/wake_up") == (200, {"level": 0})
        client.join(WAIT * 3)
        assert held == [first]
        assert server.call("GET", "/is_sleeping") == (200, {"is_sleeping": False, "level": 0})
        assert server.call("GET", "/health")[0] == 200
        assert order(server, "/wake_up") == (200, {"level": 0}), "who is awake is left alone"


def test_a_process_that_stands_by_takes_one_model_in(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "orders"
    with RuntimeProcess("", "--standby", "--admin-token", TOKEN, "--admin-socket", str(path), name="") as server:
        server.listening()
        server.wait_log(re.compile("standing by"))
        assert server.call("GET", "/health")[0] == 503
        assert order(server, "/sleep")[0] == 409
        assert order(server, "/wake_up")[1]["error_type"] == "NoModel"
        assert order(server, "/admin/load", {"model": "ftp://x/y"})[0] == 400
        assert order(server, "/admin/load", ["x"])[0] == 400
        early: list[Any] = []
        asked = {"inputs": "a", "parameters": {"max_new_tokens": 3}}
        client = threading.Thread(target=lambda: early.append(server.call("POST", "/generate", asked)))
        client.start()
        with socket.socket(socket.AF_UNIX) as keeper:
            keeper.connect(str(path))
            body = json.dumps({"model": folder_uri(tiny), "name": "adopted", "aliases": ["other"]}).encode()
            head = f"POST /admin/load HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            keeper.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: keeper.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        client.join(WAIT)
        assert early[0][0] == 200
        assert server.call("GET", "/v1/models")[1]["data"][0]["id"] == "adopted"
        stages = {stage["name"]: stage["ms"] for stage in server.call("GET", "/startup")[1]["stages"]}
        assert stages["listen"] <= stages["read"] <= stages["ready"] <= stages["first_token"]
        assert order(server, "/admin/load", {"model": folder_uri(tiny)})[1]["error_type"] == "ModelTaken"
        assert path.stat().st_mode & 0o777 == 0o600


def test_who_stands_by_has_imported_what_a_model_needs(tiny: Path) -> None:
    flags = ("--standby", "--admin-token", TOKEN)
    with RuntimeProcess("", *flags, name="", env={"TRACE_IMPORTS": "1"}) as server:
        server.listening()
        server.wait_log(re.compile("standing by"))
        assert order(server, "/admin/load", {"model": folder_uri(tiny), "name": "tiny"})[0] == 200
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        assert server.call("POST", "/v1/chat/completions", chat)[0] == 200
        stages = [stage["name"] for stage in server.call("GET", "/startup")[1]["stages"]]
        server.terminate()
        assert server.finish() == 0
    assert "torch" not in stages, "nothing has to be taken over"
    before, after = (
        set(re.findall(r"\| +([\w.]+)$", part, re.MULTILINE)) for part in server.log.split("standing by", 1)
    )
    assert {"torch", "numpy", "tokenizers", "jinja2", "zerotide_runtime.engine.runner"} <= before
    assert after == set()


def test_orders_of_strangers_are_refused(tiny_server: RuntimeProcess) -> None:
    for path in ("/sleep", "/wake_up", "/admin/load"):
        assert order(tiny_server, path)[0] == 403, "no token was set"
    assert tiny_server.call("GET", "/is_sleeping") == (200, {"is_sleeping": False, "level": 0})


def test_orders_with_a_wrong_token_or_level_are_refused(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), "--admin-token", TOKEN, name="tiny") as server:
        server.ready()
        assert order(server, "/sleep", token="other")[1]["error_type"] == "forbidden"
        status, body = order(server, "/sleep?level=3")
        assert (status, body["error_type"]) == (400, "invalid_request")
        assert order(server, "/sleep?level=1")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 0, "asleep it ends at once"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model": 3}', b'{"model": "a", "name": 1}'])
def test_orders_that_make_no_sense(body: bytes) -> None:
    with pytest.raises(SettingsError):
        read_order(body)
    with pytest.raises(SettingsError, match="list of strings"):
        read_order(b'{"model": "a", "aliases": "b"}')


def test_standing_by_needs_someone_who_can_order() -> None:
    with pytest.raises(SettingsError, match="--admin-token or --admin-socket"):
        read_settings(["--standby"], {})
    settings = read_settings(["--standby", "--admin-token", "x"], {"ZEROTIDE_MODEL_URI": "/m"})
    assert settings.model_uri == ""
