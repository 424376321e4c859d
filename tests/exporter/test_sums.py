"""Sums of usage are those of the requests, whatever came twice, late, in whichever order."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0
from tests.exporter.records import intent, settlement
from zerotide.api.usage import Intent, Outcome, Settlement
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, Usage, UsageKey, counted
from zerotide.exporter.sqlite import SQLiteStore

Record = Intent | Settlement
moments = st.one_of(st.integers(T0, T0 + 2 * DAY), st.integers(0, 200).map(lambda n: T0 // DAY * DAY + n * QUARTER))


def records(number: int, ended_us: int, consumer: str, outcome: Outcome) -> list[Record]:
    """Return the two records of a request."""
    return [
        intent(str(number), forwarded_us=T0, consumer=f"demo/{consumer}"),
        settlement(str(number), ended_us=ended_us, outcome=outcome),
    ]


requests = st.lists(
    st.tuples(moments, st.sampled_from("ab"), st.sampled_from([Outcome.COMPLETED, Outcome.LOST])), max_size=12
)


@given(requests, st.randoms(use_true_random=False), st.lists(moments, min_size=2, max_size=2))
def test_sums_are_those_of_the_requests(made: list[tuple[int, str, Outcome]], rng: object, edges: list[int]) -> None:
    sent = [record for number, each in enumerate(made) for record in records(number, *each)]
    sent += sent[::2]
    rng.shuffle(sent)  # type: ignore[attr-defined]
    store = SQLiteStore(Path(":memory:"))
    for begin in range(0, len(sent), 5):
        store.add_usage(sent[begin : begin + 5], [], T0)
    period = Period(*sorted(edges))
    expected = counted(each for each in store.attempts() if each.finished_in(*period))
    assert store.usage("", "", period) == store.usage_raw("", "", period) == expected
    assert store.usage("demo", "smollm2", period) == expected
    assert store.usage("demo", "other", period) == store.usage("else", "", period) == {}
    store.close()


def test_a_torn_transaction_leaves_neither_request_nor_sum(tmp_path: Path) -> None:
    path, ever = tmp_path / "ledger.sqlite", Period(0, T0 + DAY)
    store = SQLiteStore(path)
    pair = records(1, T0 + 5, "a", Outcome.COMPLETED)
    store.add_usage(pair[:1], [], T0)
    store._db.execute("BEGIN IMMEDIATE")
    store._add_record(pair[1], T0)
    store._count_tokens({("1", 1)}, T0)
    store._db.close()  # as a kill does: what was not committed is gone
    store = SQLiteStore(path)
    assert store.usage("", "", ever) == {}
    assert store.add_usage(pair, [], T0) == 1
    assert store.usage("", "", ever) == {UsageKey("demo", "smollm2", "demo/a"): Usage(1, 7, 3, 5, 0)}
    store.close()
