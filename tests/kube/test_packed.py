"""Packed objects: a mapping like any other, of copies, in a fraction of the memory."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.kube import Object, Packed

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), st.dictionaries(st.text(), values)))
def test_what_is_kept_is_what_was_put(objects: dict[str, Object]) -> None:
    """Whatever JSON can say."""
    packed: Packed[str] = Packed()
    packed.update(objects)
    assert dict(packed) == objects and len(packed) == len(objects)


def test_each_look_is_a_copy() -> None:
    """Whoever changes one changes nothing that is kept."""
    packed: Packed[str] = Packed()
    obj: Object = {"spec": {"replicas": 0}}
    packed["a"] = obj
    obj["spec"]["replicas"] = 1
    packed["a"]["spec"]["replicas"] = 2
    assert packed["a"] == {"spec": {"replicas": 0}} and "a" in packed and "b" not in packed
    del packed["a"]
    assert packed.get("a") is None and packed.get("a", {}) == {}
    with pytest.raises(KeyError):
        packed["a"]


def test_it_takes_a_third_of_the_memory_at_most() -> None:
    """Of objects as they come from the API server, each with keys of its own."""
    text = json.dumps({"metadata": {f"key-{at}": f"value {at}" for at in range(40)}, "spec": [{"a": 1}] * 10})

    def held(store: Packed[int] | dict[int, Object]) -> int:
        tracemalloc.start()
        for at in range(200):
            store[at] = json.loads(text)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size

    assert held(Packed()) * 3 < held({})
