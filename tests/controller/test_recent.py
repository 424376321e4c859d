"""What is kept for those that were looked at last."""

from __future__ import annotations

from zerotide.controller.recent import Recent


def test_the_oldest_goes_and_a_look_makes_new() -> None:
    """No more than so many are kept; those that are asked for stay."""
    kept: Recent[str, int] = Recent(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c"), len(kept)) == (1, None, 3, 2)
    kept.put("a", 4)
    assert kept.get("a") == 4 and len(kept) == 2
    kept.pop("a")
    kept.pop("a")
    assert kept.get("a") is None and len(kept) == 1
