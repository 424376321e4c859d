"""What a list of all endpoints calls for: who is gone, who is new, and whose turn it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.controller.test_process import operator
from tests.reconcile.helpers import raw
from zerotide.kube.client import Page


async def test_a_sweep_drops_what_a_watch_missed() -> None:
    """An endpoint that is not in the list is gone, unless it is newer than the list."""
    made = operator()
    for name, version in (("gone", "5"), ("kept", "6"), ("new", "12")):
        made.on_event("ADDED", raw(name=name, uid=f"u-{name}", resourceVersion=version))
    made._sweep(made._take([raw(name="kept", uid="u-kept", resourceVersion="6")]), 10)
    assert sorted(made.endpoints) == ["demo/kept", "demo/new"]
    made.on_event("DELETED", raw(name="kept", uid="another"))
    assert "demo/kept" in list(made.endpoints)
    made.on_event("DELETED", raw(name="kept", uid="u-kept"))
    assert list(made.endpoints) == ["demo/new"]


async def test_what_is_not_new_is_looked_at_once_in_six_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """In turn; what is new, or holds a wish that nobody has answered, with the next list."""
    made, schedule = operator(), operator().queue._schedule
    made.queue._schedule = schedule
    wish = {"wakeRequest": {"id": "w", "time": "2026-09-21T14:12:30Z", "by": "a"}}
    listed = [raw(name=f"e{number}", uid=f"u{number}", resourceVersion="5") for number in range(24)]
    listed.append(raw(name="wished", uid="u-wished", resourceVersion="5", status=wish))

    async def pages(_: Any) -> AsyncIterator[Page]:
        yield Page(iter(listed), "9")

    def looks() -> list[str]:
        taken = []
        while (key := schedule.take(0.0)) is not None:
            schedule.done(key)
            taken.append(key)
        return taken

    monkeypatch.setattr(made._client, "pages", pages)
    await made._take_all()
    assert len(looks()) == 25
    rounds = []
    for _ in range(6):
        await made._take_all()
        rounds.append(looks())
    assert all(each[0] == "demo/wished" for each in rounds)
    seen = [key for each in rounds for key in each if key != "demo/wished"]
    assert sorted(seen) == sorted(f"demo/e{number}" for number in range(24))
    assert max(map(len, rounds)) < 24
    listed[3] = raw(name="e3", uid="u3", resourceVersion="8")
    await made._take_all()
    assert "demo/e3" in looks()


async def test_what_ends_while_it_is_listed_stays_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages are as old as the first, and the watch may be ahead of the last; a successor is another one."""
    made = operator()
    for name in ("a", "b"):
        made.on_event("ADDED", raw(name=name, uid=f"u-{name}", resourceVersion="5"))

    async def pages(_: Any) -> AsyncIterator[Page]:
        made.on_event("DELETED", raw(name="a", uid="u-a"))
        made.on_event("DELETED", raw(name="b", uid="u-b"))
        made.on_event("ADDED", raw(name="b", uid="another", resourceVersion="11"))
        yield Page(iter([raw(name=name, uid=f"u-{name}", resourceVersion="5") for name in ("a", "b")]), "9")

    monkeypatch.setattr(made._client, "pages", pages)
    await made._take_all()
    assert list(made.endpoints) == ["demo/b"]
    assert made.queue._schedule.take(0.0) == "demo/b" and made.queue._schedule.take(0.0) is None
