"""Objects of ours in a namespace of a real API server: made, refused, and whether the types refuse them as well."""

from __future__ import annotations

import copy
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from tests.api.server import Refused, Server
from zerotide.api.apikey import APIKey
from zerotide.api.endpoint import InferenceEndpoint

NAMESPACE = f"api-tests-{uuid4().hex[:8]}"  # a new one each time: the last one may still be going
ROOT = "/apis/zerotide.dev/v1alpha1/namespaces"
MODEL: dict[str, Any] = {"model": {"uri": "image:///m"}}
PLURALS = {"InferenceEndpoint": "inferenceendpoints", "APIKey": "apikeys"}


def create(client: Server, obj: dict[str, Any], *, keep: bool = False) -> dict[str, Any]:
    """Create an object in the tests' namespace under strict validation, by default without keeping it."""
    obj = copy.deepcopy(obj)
    obj["metadata"]["namespace"] = NAMESPACE
    dry = "" if keep else "&dryRun=All"
    path = f"{ROOT}/{NAMESPACE}/{PLURALS[obj['kind']]}?fieldValidation=Strict{dry}"
    made: dict[str, Any] = client.call("POST", path, obj)
    return made


def refusal(client: Server, obj: dict[str, Any]) -> str | None:
    """Return why the schema refuses an object, or None; what a policy says comes after the schema."""
    try:
        create(client, obj)
    except Refused as error:
        if "ValidatingAdmissionPolicy" in str(error):
            return None
        assert error.status in (400, 422), error
        return str(error)
    return None


def accepts(model: type[InferenceEndpoint] | type[APIKey], obj: dict[str, Any]) -> bool:
    """Tell whether a type takes an object."""
    try:
        model.model_validate(obj)
    except ValidationError:
        return False
    return True
