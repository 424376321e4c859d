"""What a POST of ours owns becomes what our applies own; others' entries are left alone."""

from __future__ import annotations

from zerotide.reconcile.fields import joined

OTHER = {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}}
POSTED = {"manager": "me", "operation": "Update", "fieldsV1": {"f:spec": {"f:a": {}, "f:b": {}}}}
APPLIED = {"manager": "me", "operation": "Apply", "fieldsV1": {"f:spec": {"f:b": {}, "f:c": {"k:1": {}}}}}
SCALED = {"manager": "me", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}}


def test_entries_are_joined() -> None:
    """The union of the fields, owned by the apply."""
    result = joined([OTHER, POSTED, SCALED, APPLIED], "me")
    assert result is not None
    assert result[:2] == [OTHER, SCALED]
    assert result[2]["operation"] == "Apply"
    assert result[2]["fieldsV1"] == {"f:spec": {"f:a": {}, "f:b": {}, "f:c": {"k:1": {}}}}


def test_nothing_to_join() -> None:
    """An object that only applies of ours made, or that is not ours at all."""
    assert joined([OTHER, APPLIED], "me") is None
    assert joined([OTHER], "me") is None
