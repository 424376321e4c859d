"""What people see while a model wakes."""

from __future__ import annotations

import io

from zerotide.cli.sse import Comment
from zerotide.cli.ticker import Ticker


class Terminal(io.StringIO):
    """A terminal, as far as it says."""

    def isatty(self) -> bool:
        """Be one."""
        return True


def phase(state: str, elapsed_ms: int, held: bool = True, more: str = "") -> Comment:
    """Return a phase as the gateway tells it."""
    return Comment(f'zerotide.phase {{"state":"{state}","held":{str(held).lower()},"elapsedMs":{elapsed_ms}{more}}}')


def test_lines_where_there_is_no_terminal() -> None:
    """One for each phase and each heartbeat, none for what is something else."""
    err = io.StringIO()
    ticker = Ticker("m", err)
    for comment in (
        phase("Waking", 3),
        phase("Loading", 1400, more=',"readyInMs":2500'),
        Comment("zerotide state=Loading elapsed=15s"),
        Comment("keep-alive"),
        phase("Awake", 16_000, held=False),
    ):
        ticker.heard(comment)
        ticker.tick()
    assert err.getvalue().splitlines() == [
        "… m wakes: Waking for 3 ms",
        "… m wakes: Loading for 1.40 s, ready in about 2.50 s",
        "… m wakes: Loading for 15s",
    ]


def test_a_busy_model_is_not_said_to_wake() -> None:
    """A request that waits while the model serves others waits for room."""
    err = io.StringIO()
    Ticker("m", err).heard(phase("Awake", 3))
    assert err.getvalue() == "… m is busy for 3 ms\n"


def test_a_terminal_shows_the_newest_phase_in_place() -> None:
    """And nothing any more once the request goes to a replica."""
    err = Terminal()
    ticker = Ticker("m", err)
    ticker.tick()
    assert err.getvalue() == ""
    ticker.heard(phase("Loading", 3))
    ticker.tick()
    assert err.getvalue().startswith("\r\x1b[K… m wakes: Loading for ")
    ticker.heard(phase("Awake", 9, held=False))
    shown = err.getvalue()
    assert shown.endswith("\r\x1b[K")
    ticker.state("Loading")
    ticker.tick()
    ticker.stop()
    assert err.getvalue() == shown
