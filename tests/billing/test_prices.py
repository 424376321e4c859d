"""The price book: shape, selection, and cutting at price changes."""

from __future__ import annotations

from fractions import Fraction
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, instants
from zerotide.api.scalars import HOUR, SECOND, format_micro_time, parse_time
from zerotide.billing.errors import InvalidPriceBook, OverlappingPrices, PriceBookError
from zerotide.billing.fold import Phase
from zerotide.billing.prices import (
    Meter,
    PriceBookSpec,
    PriceIndex,
    first_difference,
    multiplier,
    read_price_book,
)
from zerotide.exporter.pricefile import load_market


def price(name: str = "cpu", **fields: Any) -> dict[str, Any]:
    """Return a price entry as people write it."""
    basis = {"name": name, "meter": "CPUTime", "amount": "0.04", "per": "Hour", "validFrom": "2020-01-01T00:00:00Z"}
    return {**basis, **fields}


def book(*prices: dict[str, Any], **fields: Any) -> PriceBookSpec:
    """Return a price book of these entries."""
    return read_price_book({"currency": "USD", "prices": list(prices), **fields})


def test_the_shipped_price_file_prices_what_it_names() -> None:
    document = yaml.safe_load(files("zerotide.billing").joinpath("prices.yaml").read_text())
    shipped = read_price_book(document)
    index, now = PriceIndex(shipped), parse_time("2026-11-22T00:00:00Z")
    assert all(entry.source for entry in shipped.prices), "every price says where it comes from"
    a100 = index.at(Meter.ACCELERATOR_TIME, "nvidia-a100-80gb", now)
    assert a100 is not None
    assert a100.rate * 3600 * SECOND == Fraction("5.04")
    assert index.at(Meter.ACCELERATOR_TIME, shipped.default_class, now) is not None
    assert index.at(Meter.CPU_TIME, "", now) is not None
    assert index.at(Meter.MEMORY_TIME, "", now) is not None


def test_an_hourly_price_is_exact_by_the_microsecond() -> None:
    (entry,) = book(price(amount="0.34")).prices
    assert entry.rate * HOUR == Fraction(34, 100)


def test_the_newest_price_that_holds_is_taken() -> None:
    index = PriceIndex(
        book(
            price("old"),
            price("sale", validFrom="2026-03-01T00:00:00Z", validTo="2026-04-01T00:00:00Z"),
            price("future", validFrom="2027-01-01T00:00:00Z"),
        )
    )

    def name(month: str) -> str | None:
        found = index.at(Meter.CPU_TIME, "", parse_time(f"2026-{month}-01T00:00:00Z"))
        return found.name if found else None

    assert [name("02"), name("03"), name("04"), name("11")] == ["old", "sale", "old", "old"]
    assert index.at(Meter.CPU_TIME, "", 0) is None
    assert index.at(Meter.MEMORY_TIME, "", T0) is None


def test_cached_tokens_cost_as_others_do_unless_the_book_says_less() -> None:
    plain = PriceIndex(book(price("in", meter="InputTokens", amount="0.50", per="Million")))
    found = plain.at(Meter.CACHED_INPUT_TOKENS, "", T0)
    assert found is not None and found.name == "in" and plain.priced(Meter.CACHED_INPUT_TOKENS)
    assert [piece.price for piece in plain.pieces(Meter.CACHED_INPUT_TOKENS, "", T0, T0 + HOUR)] == [found]
    cheaper = PriceIndex(
        book(
            price("in", meter="InputTokens", amount="0.50", per="Million"),
            price("again", meter="CachedInputTokens", amount="0.05", per="Million"),
        )
    )
    assert [
        getattr(cheaper.at(meter, "", T0), "name", None) for meter in (Meter.CACHED_INPUT_TOKENS, Meter.INPUT_TOKENS)
    ] == [
        "again",
        "in",
    ]
    assert not PriceIndex(book(price())).priced(Meter.CACHED_INPUT_TOKENS)


def test_cached_tokens_cost_as_others_do_until_their_own_price_begins_and_after_it_ends() -> None:
    """Prices are announced ahead: what is announced for next month makes nothing free until then."""
    plain = price("in", meter="InputTokens", amount="0.50", per="Million")
    sale = {"validFrom": format_micro_time(T0 + HOUR), "validTo": format_micro_time(T0 + 2 * HOUR)}
    announced = price("again", meter="CachedInputTokens", amount="0.05", per="Million", **sale)
    index = PriceIndex(book(plain, announced))
    pieces = index.pieces(Meter.CACHED_INPUT_TOKENS, "", T0, T0 + 3 * HOUR)
    assert [piece.price.name if piece.price else None for piece in pieces] == ["in", "again", "in"]
    assert [piece.start_us - T0 for piece in pieces] == [0, HOUR, 2 * HOUR]
    assert first_difference(book(plain), index.book) == T0 + HOUR
    dearer = price("dearer", meter="InputTokens", amount="0.60", per="Million", validFrom=format_micro_time(T0 + 5))
    pieces = PriceIndex(book(plain, dearer)).pieces(Meter.CACHED_INPUT_TOKENS, "", T0, T0 + 10)
    assert [piece.price.name if piece.price else None for piece in pieces] == ["in", "dearer"]


@given(st.lists(st.tuples(instants, instants), max_size=5, unique_by=lambda each: each[0]), instants, instants)
def test_pieces_partition_a_span_and_each_has_one_price(valid: list[tuple[int, int]], one: int, other: int) -> None:
    entries = [
        price(
            f"p{number}",
            validFrom=format_micro_time(begin),
            **({"validTo": format_micro_time(until)} if until > begin else {}),
        )
        for number, (begin, until) in enumerate(valid)
    ]
    index = PriceIndex(book(*entries))
    start, end = sorted((one, other))
    pieces = index.pieces(Meter.CPU_TIME, "", start, end)
    assert sum(piece.end_us - piece.start_us for piece in pieces) == end - start
    assert all(before.end_us == after.start_us and before.price != after.price for before, after in pairwise(pieces))
    for piece in pieces:
        assert all(index.at(Meter.CPU_TIME, "", t) == piece.price for t in range(piece.start_us, piece.end_us))


def test_phases_weigh_as_the_book_says_and_lost_time_is_free_by_default() -> None:
    plain = book()
    assert [phase for phase in Phase if not multiplier(plain, phase)] == [Phase.QUEUED, Phase.BLOCKED, Phase.LOST]
    weighed = book(
        phaseMultipliers=[{"phase": "Idle", "multiplier": "0.5"}, {"phase": "KeepWarm", "multiplier": "0.25"}]
    )
    assert multiplier(weighed, Phase.COOLDOWN) == Fraction(1, 2)
    assert multiplier(weighed, Phase.KEEP_WARM) == Fraction(1, 4)
    assert multiplier(weighed, Phase.ACTIVE) == 1


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "must be a mapping"),
        ({"prices": []}, "currency"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "USD", "prices": [price(amount=0.04)]}, "amount"),
        ({"currency": "USD", "prices": [price(amount="-1")]}, "amount"),
        ({"currency": "USD", "prices": [price(per="Million")]}, "per must be Second or Hour for time"),
        ({"currency": "USD", "prices": [price(meter="AcceleratorTime")]}, "acceleratorClassName"),
        ({"currency": "USD", "prices": [price(acceleratorClassName="x")]}, "acceleratorClassName"),
        ({"currency": "USD", "prices": [price(validTo="2019-01-01T00:00:00Z")]}, "later than validFrom"),
        ({"currency": "USD", "prices": [price(), price()]}, "repeat a name"),
        ({"currency": "USD", "price": []}, "price"),
    ],
)
def test_what_is_no_price_book_is_refused_with_the_field(document: Any, words: str) -> None:
    with pytest.raises(InvalidPriceBook, match=words):
        read_price_book(document)


def test_two_prices_from_the_same_instant_are_refused() -> None:
    with pytest.raises(OverlappingPrices, match="cpu and again"):
        book(price(), price("again"))
    assert issubclass(OverlappingPrices, PriceBookError)


def test_a_whole_object_is_read_like_its_spec() -> None:
    assert read_price_book({"kind": "PriceBook", "spec": {"currency": "USD"}}) == book()


def test_the_market_s_prices_all_say_where_they_come_from() -> None:
    books = load_market()
    vendors = " ".join(sorted({name.partition("-")[0] for name in books}))
    assert vendors == "bedrock fireworks groq modal replicate runpod together vertex"
    for name, each in books.items():
        assert each.prices, name
        assert all(entry.source and parse_time(entry.valid_from) for entry in each.prices), name
        PriceIndex(each)
