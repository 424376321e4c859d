"""JSON text says what the standard library's says, whichever library wrote it."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.kube.encoding import decode, decode_page, encode, glance

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(leaves, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=20)


class Word(StrEnum):
    """A word that is a string by inheritance."""

    ONE = "one"


class Text(str):
    """A string of a class of its own."""


@given(documents)
def test_whoever_reads_it_reads_the_same(document: Any) -> None:
    """Integers of any size included."""
    assert json.loads(encode(document)) == document == decode(encode(document))


@given(documents)
def test_what_others_wrote_is_read_as_they_meant_it(document: Any) -> None:
    """With spaces, and with everything beyond ASCII escaped."""
    assert decode(json.dumps(document, indent=1).encode()) == document


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"a": ("b", 1)}, b'{"a":["b",1]}'),
        ({Word.ONE: Word.ONE}, b'{"one":"one"}'),
        ({Text("a"): Text("b")}, b'{"a":"b"}'),
        ({"model": "\udcff"}, b'{"model":"\\udcff"}'),
        ([float("inf"), float("nan")], b"[null,null]"),
    ],
)
def test_what_is_hardly_json(document: Any, text: bytes) -> None:
    """It is written all the same."""
    assert encode(document) == text


def test_what_is_no_json_is_refused() -> None:
    """Both ways."""
    with pytest.raises(TypeError):
        encode({"a": object()})
    with pytest.raises(ValueError, match="truncated"):
        decode(b'{"a":')


@given(items=st.lists(documents))
def test_a_list_is_read_item_by_item(items: list[Any]) -> None:
    """Each says what it says in the whole; a list without any has none."""
    page = {"kind": "List", "metadata": {"resourceVersion": "7"}, "items": items}
    metadata, texts = decode_page(json.dumps(page).encode())
    assert metadata == page["metadata"] and [decode(text) for text in texts] == items
    assert decode_page(b'{"metadata":{},"items":null}') == ({}, []) == decode_page(b'{"metadata":{}}')


def seen(event: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return what a glance at an event tells."""
    told = glance(json.dumps(event).encode())
    metadata = told.object.metadata
    return told.type, metadata.namespace, metadata.name, metadata.resource_version


@given(documents)
def test_a_glance_at_an_event(rest: Any) -> None:
    """It tells what the event says, whatever else there is; who is in no namespace, and bookmarks, have no names."""
    metadata = {"namespace": "a", "name": "b", "resourceVersion": "7", "managedFields": rest}
    event = {"type": "ADDED", "object": {"metadata": metadata, "spec": rest, "status": rest}, "more": rest}
    assert seen(event) == ("ADDED", "a", "b", "7")
    bookmark = {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "8"}}}
    assert seen(bookmark) == ("BOOKMARK", "", "", "8")
