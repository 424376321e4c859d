"""Charges of buckets are the bill of the whole, seals chain, and what was changed is named."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import flights, ledger, whole_life
from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt, life, pod_facts
from zerotide.api.scalars import SECOND
from zerotide.billing.bills import endpoint_bill
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import ColdStart, Ledger, Split, folded
from zerotide.billing.prices import first_difference
from zerotide.billing.rating import Line, LineKey, Period
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import (
    GENESIS,
    Charges,
    Link,
    Sealed,
    added,
    book_digest,
    book_text,
    broken,
    bucket_of,
    charge_of,
    charges,
    difference,
    row_of,
    sealed,
)
from zerotide.billing.spans import Span
from zerotide.billing.usage import Attempt

START = bucket_of(T0)
HOUR = Period(START, START + 4 * QUARTER)
PRICES = index(
    gpu(),
    gpu("0.0021", "raised", T0 + 50),
    {"name": "out", "meter": "OutputTokens", "amount": "2", "per": "Million", "validFrom": "2020-01-01T00:00:00Z"},
)


def by_line(found: Charges) -> dict[LineKey, Line]:
    """Return charges summed over their buckets."""
    total: dict[LineKey, Line] = {}
    for key, line in found.items():
        known = total.get(key.line, Line(Fraction(0), Fraction(0)))
        total[key.line] = Line(known.quantity + line.quantity, known.amount + line.amount)
    return total


def chain(*parts: Charges) -> list[Sealed]:
    """Seal consecutive buckets, one at a time."""
    made: list[Sealed] = []
    for number, part in enumerate(parts):
        head = made[-1].seal if made else None
        made += sealed(head, [START + number * QUARTER], part, sealed_us=T0, epoch=1, book="b")
    return made


def links(made: list[Sealed]) -> list[Link]:
    """Return a chain as a store gives it back."""
    return [Link(each.seal.bucket_us, each.seal, [row_of(*charge) for charge in each.charges.items()]) for each in made]


def served(as_of: int = T0 + 3600 * SECOND) -> Ledger:
    """Return a replica that lived over the edge of a bucket and served two consumers."""
    attempts = (
        attempt(630, 1650, "demo/a", tokens=(5, 0, 500)),
        attempt(800, 1000, "demo/b", tokens=(5, 0, 700)),
    )
    return ledger(
        life(scheduled=600, started=605, ready=620, delete=1700, finished=1710), attempts=attempts, as_of=as_of
    )


def test_buckets_add_up_to_the_bill() -> None:
    made = served()
    found = charges(made, PRICES, HOUR)
    assert {key.of_us for key in found} == {START + QUARTER, START + 2 * QUARTER}
    assert by_line(found) == endpoint_bill(made, PRICES, HOUR).lines()


worlds = st.tuples(pod_facts("u1"), flights, st.sampled_from(list(ColdStart)))


@given(worlds, st.integers(-8, 8))
def test_buckets_of_any_world_add_up_to_its_bill(
    world: tuple[list[Fact], list[tuple[str, Span, int]], ColdStart], shift: int
) -> None:
    facts, flown, cold_start = world
    # A bucket's edge lies within the world: its instants are few, and all of them are about T0.
    edge = bucket_of(T0) + QUARTER
    move = edge - T0 - 100 + shift
    facts = [fact._replace(t_us=fact.t_us + move) for fact in facts]
    attempts = tuple(
        replace_times(attempt(0, 0, who, request_id=str(number), tokens=(n, 0, n)), span, move)
        for number, (who, span, n) in enumerate(flown)
    )
    made = ledger(facts, attempts=attempts, as_of=edge + QUARTER)
    made = folded(replace(made.records, cold_start=cold_start), edge + QUARTER)
    assert by_line(charges(made, PRICES, HOUR)) == {
        key: line for key, line in endpoint_bill(made, PRICES, HOUR).lines().items() if line.quantity
    }


def replace_times(each: Attempt, span: Span, move: int) -> Attempt:
    """Return an attempt that flew at another time."""
    return each._replace(forwarded_us=span.start_us + move, ended_us=span.end_us + move)


def test_shares_by_tokens_add_up_but_for_what_each_part_rounds() -> None:
    made = folded(replace(served().records, split=Split.TOKENS), T0 + 3600 * SECOND)
    found, whole = by_line(charges(made, PRICES, HOUR)), endpoint_bill(made, PRICES, HOUR).lines()
    assert found.keys() == whole.keys()
    assert all(abs(found[key].amount - whole[key].amount) < Fraction(1, 10**12) for key in whole)


def test_a_charge_is_a_row_and_back() -> None:
    found = charges(served(), PRICES, HOUR)
    assert dict(charge_of(row_of(*charge)) for charge in found.items()) == found


def test_corrections_make_what_was_charged_into_what_is_so_now() -> None:
    before, after = charges(ledger(whole_life()), PRICES, HOUR), charges(served(), PRICES, HOUR)
    corrections = difference(after, before)
    assert added((before, corrections)) == after
    assert difference(after, after) == {}
    assert any(line.amount < 0 for line in corrections.values())


def test_corrections_go_into_the_first_bucket_that_is_sealed() -> None:
    late = charges(served(), PRICES, HOUR)
    buckets = [START + 8 * QUARTER, START + 9 * QUARTER]
    first, second = sealed(None, buckets, late, sealed_us=T0, epoch=1, book="b")
    assert (first.charges, second.charges) == (late, {})
    assert (first.seal.previous, second.seal.previous) == (GENESIS, first.seal.hash)
    assert (first.seal.number, second.seal.number, second.seal.bucket_us) == (1, 2, buckets[1])


def test_a_sound_chain_has_no_differences() -> None:
    found = charges(served(), PRICES, HOUR)
    assert list(broken(links(chain(found, {}, found)))) == []


@pytest.mark.parametrize("column", range(12))
def test_any_change_of_a_charge_is_named_by_its_bucket(column: int) -> None:
    found = links(chain({}, charges(served(), PRICES, HOUR), {}))
    rows = [list(row) for row in found[1].rows]
    rows[0][column] = "1/7" if isinstance(rows[0][column], str) else 5
    found[1] = found[1]._replace(rows=rows)
    (said, *others) = broken(found)
    assert said.startswith("bucket 2025-06-15T15:15:00Z (seal 2) was changed")
    assert others == []


@pytest.mark.parametrize("field", ["number", "bucket_us", "sealed_us", "epoch", "book", "previous", "hash"])
def test_any_change_of_a_seal_is_named(field: str) -> None:
    found = links(chain({}, {}, {}))
    seal = found[1].seal
    assert seal is not None
    value = getattr(seal, field)
    changed: Any = {field: value + 1 if isinstance(value, int) else "0" * 64}
    found[1] = found[1]._replace(seal=seal._replace(**changed))
    assert next(broken(found)).startswith(f"bucket {'2025-06-15T15:15:00' if field != 'bucket_us' else '2025'}")


def test_what_is_removed_is_missed() -> None:
    found = links(chain(charges(served(), PRICES, HOUR), {}, {}))
    without_charge = [found[0]._replace(rows=found[0].rows[1:]), *found[1:]]
    assert next(broken(without_charge)).startswith("bucket 2025-06-15T15:00:00Z (seal 1) was changed")
    assert next(broken([found[0], found[2]])).startswith("bucket 2025-06-15T15:30:00Z (seal 3) does not follow")
    assert next(broken(found[1:])).startswith("bucket 2025-06-15T15:15:00Z (seal 2) does not follow")
    unsealed = Link(START + 9 * QUARTER, None, found[0].rows)
    assert next(broken([*found, unsealed])) == "bucket 2025-06-15T17:15:00Z holds charges that no seal covers"


def test_books_differ_from_the_first_instant_at_which_they_price_anything_differently() -> None:
    book = index(gpu(), gpu("2", "second", T0)).book
    assert first_difference(book, book) is None
    assert first_difference(book, index(gpu(), gpu("2", "second", T0), gpu("3", "third", T0 + 5)).book) == T0 + 5
    assert first_difference(index(gpu()).book, book) == T0
    ended = index(gpu(validTo="2026-01-01T00:00:00Z"), gpu("2", "second", T0)).book
    assert first_difference(book, ended) is None, "it had ended before"
    assert first_difference(book, index(gpu(), gpu("2", "second", T0), currency="EUR").book) == 0
    assert book_digest(book_text(book)) != book_digest(book_text(ended))
