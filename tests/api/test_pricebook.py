"""Price books only grow, as the type says and as a real API server keeps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.api.server import MERGE, Refused, Server
from zerotide.api.pricebook import PriceBook

EXAMPLE = Path(__file__).parents[2] / "examples" / "pricebook.yaml"
BOOKS = "/apis/zerotide.dev/v1alpha1/pricebooks"
NAME = "price-book-tests"
CPU = {"name": "cpu", "meter": "CPUTime", "amount": "0.04", "per": "Hour", "validFrom": "2026-01-01T00:00:00Z"}
GPU = {**CPU, "name": "l4", "meter": "AcceleratorTime", "acceleratorClassName": "nvidia-l4"}
SPEC: dict[str, Any] = {"currency": "USD", "prices": [CPU, GPU]}

DATED = {"validFrom": "2026-01-01T00:00:00Z"}
FREE = {"name": "free", "type": "FreeTier", "meter": "OutputTokens", "quantity": "1000", **DATED}
OFF = {"name": "off", "type": "Discount", "percent": "12.5", "above": "100", **DATED}
CREDIT = {"name": "credit", "type": "Credit", "amount": "50", "consumers": ["demo/a"], **DATED}
HELD = {
    "name": "held",
    "type": "Commitment",
    "meter": "AcceleratorTime",
    "acceleratorClassName": "nvidia-l4",
    "quantity": "2",
    "amount": "0.30",
    "per": "Hour",
    "validFrom": "2026-01-01T00:00:00Z",
}


def terms(*given: dict[str, Any]) -> dict[str, Any]:
    """Return a spec with terms."""
    return {"currency": "USD", "terms": list(given)}


def book(**spec: Any) -> dict[str, Any]:
    """Return a book with these fields."""
    return {"apiVersion": "zerotide.dev/v1alpha1", "kind": "PriceBook", "metadata": {"name": NAME}, "spec": spec}


CASES: list[dict[str, Any]] = [
    SPEC,
    {"currency": "USD"},
    {"currency": "usd"},
    {"prices": [CPU]},
    {**SPEC, "increment": "1ms"},
    {**SPEC, "increment": "0s"},
    {**SPEC, "phaseMultipliers": [{"phase": "Idle", "multiplier": "0.5"}]},
    {**SPEC, "phaseMultipliers": [{"phase": "Queued", "multiplier": "0.5"}]},
    {**SPEC, "phaseMultipliers": [{"phase": "Idle", "multiplier": "0.5"}] * 2},
    {"currency": "USD", "prices": [CPU, CPU]},
    {"currency": "USD", "prices": [{**CPU, "amount": "-1"}]},
    {"currency": "USD", "prices": [{**CPU, "amount": "1e3"}]},
    {"currency": "USD", "prices": [{**CPU, "amount": "1." + "0" * 19}]},
    {"currency": "USD", "prices": [{**CPU, "per": "Million"}]},
    {"currency": "USD", "prices": [{**CPU, "meter": "InputTokens"}]},
    {"currency": "USD", "prices": [{**CPU, "meter": "InputTokens", "per": "Million"}]},
    {"currency": "USD", "prices": [{**CPU, "meter": "AcceleratorTime"}]},
    {"currency": "USD", "prices": [{**CPU, "acceleratorClassName": "nvidia-l4"}]},
    {"currency": "USD", "prices": [{**CPU, "validTo": "2025-01-01T00:00:00Z"}]},
    {"currency": "USD", "prices": [{**CPU, "validTo": "2027-01-01T00:00:00+02:00"}]},
    {"currency": "USD", "prices": [{**CPU, "validTo": "soon"}]},
    terms(FREE, OFF, CREDIT, HELD),
    terms(FREE, FREE),
    terms({**FREE, "meter": "AcceleratorTime"}),
    terms({**FREE, "acceleratorClassName": "nvidia-l4"}),
    terms({**FREE, "amount": "1"}),
    terms({**FREE, "type": "Rebate"}),
    terms({key: value for key, value in FREE.items() if key != "quantity"}),
    terms({key: value for key, value in FREE.items() if key != "meter"}),
    terms({**OFF, "percent": "100"}, CREDIT),
    terms({**OFF, "percent": "101"}),
    terms({**OFF, "percent": "-1"}),
    terms({**OFF, "quantity": "1"}),
    terms({**CREDIT, "above": "1"}),
    terms({**CREDIT, "validTo": "2025-01-01T00:00:00Z"}),
    terms({**CREDIT, "consumers": ["demo/a"] * 17}),
    terms({**HELD, "per": "Million"}),
    terms({**HELD, "meter": "OutputTokens", "acceleratorClassName": ""}),
    terms({**HELD, "meter": "CPUTime", "acceleratorClassName": ""}),
]


def accepted(spec: dict[str, Any]) -> bool:
    """Tell whether the type takes a spec."""
    try:
        PriceBook.model_validate(book(**spec))
    except ValidationError:
        return False
    return True


def test_the_example_is_a_price_book() -> None:
    example = PriceBook.model_validate(yaml.safe_load(EXAMPLE.read_text()))
    assert example.spec.increment_us == 1000
    assert len(example.spec.prices) == 5


@pytest.fixture(scope="module")
def server(cluster: Any) -> Iterator[Server]:
    """Return a client of a cluster that has price books."""
    with Server(cluster.kubeconfig) as client:
        client.define("pricebooks")
        yield client


def test_the_type_and_the_server_agree_about_books(server: Server) -> None:
    for spec in CASES:
        said = server.refusal(BOOKS, book(**spec))
        assert (said is None) == accepted(spec), said or spec
    assert server.refusal(BOOKS, yaml.safe_load(EXAMPLE.read_text())) is None


def changed(place: int, **fields: Any) -> dict[str, Any]:
    """Return the spec with one price changed; None removes a field."""
    spec = copy.deepcopy(SPEC)
    for name, value in fields.items():
        if value is None:
            spec["prices"][place].pop(name)
        else:
            spec["prices"][place][name] = value
    return spec


def test_terms_only_grow(server: Server) -> None:
    try:
        server.call("POST", BOOKS, book(**terms(FREE, CREDIT)))
        path = f"{BOOKS}/{NAME}?dryRun=All"
        for spec, words in (
            (terms({**FREE, "quantity": "2000"}, CREDIT), "a term must not change"),
            (terms(FREE, {**CREDIT, "consumers": ["demo/b"]}), "a term must not change"),
            (terms(CREDIT), "terms must not be removed"),
        ):
            with pytest.raises(Refused, match=words):
                server.call("PATCH", path, {"spec": spec}, MERGE)
        grown = terms({**FREE, "validTo": "2026-06-01T00:00:00Z"}, CREDIT, OFF)
        assert server.call("PATCH", path, {"spec": grown}, MERGE)
    finally:
        server.call("DELETE", f"{BOOKS}/{NAME}")


def test_a_book_only_grows(server: Server) -> None:
    try:
        server.call("POST", BOOKS, book(**SPEC))
        path = f"{BOOKS}/{NAME}?dryRun=All"
        for spec, words in (
            (changed(0, amount="0.05"), "a price must not change"),
            (changed(0, validFrom="2026-01-02T00:00:00Z"), "a price must not change"),
            (changed(1, acceleratorClassName="nvidia-l40s"), "a price must not change"),
            ({**SPEC, "prices": [CPU]}, "prices must not be removed"),
            ({**SPEC, "prices": None}, "prices must not be removed"),
            ({**SPEC, "currency": "EUR"}, "must not change: make another book"),
            ({**SPEC, "increment": "1s"}, "increment and defaultAcceleratorClassName must not change"),
            ({**SPEC, "phaseMultipliers": [{"phase": "Idle", "multiplier": "0"}]}, "phaseMultipliers, increment"),
        ):
            with pytest.raises(Refused, match=words):
                server.call("PATCH", path, {"spec": spec}, MERGE)
        ended = changed(0, validTo="2026-12-01T00:00:00Z")
        ended["prices"].append({**CPU, "name": "cpu-december", "amount": "0.03", "validFrom": "2026-12-01T00:00:00Z"})
        server.call("PATCH", f"{BOOKS}/{NAME}", {"spec": ended}, MERGE)
        with pytest.raises(Refused, match="a price must not change"):
            server.call("PATCH", path, {"spec": {**ended, "prices": [*SPEC["prices"], ended["prices"][2]]}}, MERGE)
    finally:
        server.call("DELETE", f"{BOOKS}/{NAME}")
