"""At most one process holds the lease, whatever the clocks say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.kube.client import Object
from zerotide.kube.lease import decide

ME, OTHER = "me", "other"


def lease(holder: str) -> Object:
    """Make a lease record held by somebody."""
    return {"spec": {"holderIdentity": holder}}


def test_the_four_choices() -> None:
    """Each situation has one answer."""
    assert decide(None, ME, 0, 5) == "create"
    assert decide(lease(ME), ME, 100, 5) == "renew"
    assert decide(lease(""), ME, 0, 5) == "take"
    assert decide(lease(OTHER), ME, 5, 5) == "take"
    assert decide(lease(OTHER), ME, 4.999, 5) == "follow"


@given(
    renewals=st.lists(st.floats(0.0, 4.9), min_size=1, max_size=30),
    offset=st.floats(0.0, 1e6),
)
def test_a_holder_that_renews_in_time_is_never_displaced(renewals: list[float], offset: float) -> None:
    """The follower's clock may stand anywhere: only the time it saw nothing change counts."""
    now = offset
    for pause in renewals:
        seen_at = now
        now += pause
        assert decide(lease(OTHER), ME, now - seen_at, 5.0) == "follow"
