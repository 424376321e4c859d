"""`spec.model`: what is served, and where its weights are."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from zerotide.api.base import Matches, Model, Name, Unique
from zerotide.api.failures import InvalidUri

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_PATH = r"(/[A-Za-z0-9._@+=:,~-]+)+"
URI = Matches(
    rf"^(hf://{_NAME}(/{_NAME})?(@[A-Za-z0-9][A-Za-z0-9._/-]{{0,127}})?"
    rf"|pvc://[a-z0-9][-a-z0-9.]{{0,252}}({_PATH})?|(file|image)://{_PATH})$",
    "be hf://owner/name[@revision], pvc://claim/path, file:///node/path or image:///path, with no part `.` or `..`",
    refuse=r"/\.\.?(/|$)",
)
_PLACE = r"/[A-Za-z0-9_@+=:,~-](/[A-Za-z0-9_@+=:,~-]|[A-Za-z0-9._@+=:,~-])*"
_ADAPTER_URI = (
    rf"^(hf://{_NAME}/{_NAME}(@[A-Za-z0-9][A-Za-z0-9._-]{{0,127}})?"
    rf"|pvc://[a-z0-9][-a-z0-9.]{{0,252}}({_PLACE})?|image://{_PLACE})$"
)
"""A pattern and no rule of CEL, whose cost would count for each of a list's items; no part begins with a dot."""
ModelName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


class ModelUri(NamedTuple):
    """Where weights are: `image` and `file` have a path, `pvc` a claim as well, `hf` a repository and a revision."""

    scheme: Literal["hf", "pvc", "file", "image"]
    path: str
    claim: str = ""
    revision: str = ""


def parse_uri(uri: str) -> ModelUri:
    """Take a `model.uri` apart: `hf://o/n@r` has the path `o/n`, `pvc://c/p` the path `/p`.

    Raises InvalidUri for any other text.
    """
    if not URI.holds(uri):
        raise InvalidUri(f"{uri!r}: the uri {URI.message}")
    scheme, _, rest = uri.partition("://")
    if scheme == "hf":
        repository, _, revision = rest.partition("@")
        return ModelUri("hf", repository, revision=revision)
    if scheme == "pvc":
        claim, slash, path = rest.partition("/")
        return ModelUri("pvc", slash + path, claim=claim)
    return ModelUri("file" if scheme == "file" else "image", rest)


class SecretRef(Model):
    """A Secret in the object's own namespace."""

    name: Annotated[Name, Field(description="Name of the Secret.")]


class AdapterSpec(Model):
    """A LoRA adapter that is served beside the model."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            description="Name by which clients ask for it, behind a name of the model and a colon.",
        ),
    ]
    uri: Annotated[
        str,
        Field(
            min_length=1,
            max_length=512,
            pattern=_ADAPTER_URI,
            description="Where it is, a folder as PEFT saves it: hf://owner/name[@revision], pvc://claim/path or "
            "image:///path.",
        ),
    ]


class ModelSpec(Model):
    """What is served."""

    uri: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            description="Where the weights are: hf://owner/name[@revision] on the Hugging Face Hub, pvc://claim/path "
            "in a volume, file:///path on the node, image:///path inside the runtime image (mounts nothing and so "
            "starts fastest).",
        ),
        URI,
    ]
    name: Annotated[
        ModelName | None,
        Field(description="Name by which clients ask for the model. Absent: the name of the endpoint."),
    ] = None
    aliases: Annotated[
        tuple[ModelName, ...],
        Field(max_length=8, description="Further names by which clients may ask for the model."),
        Unique(),
    ] = ()
    adapters: Annotated[
        tuple[AdapterSpec, ...],
        Field(
            max_length=32,
            description="LoRA adapters of the model, each called as <name of the model>:<name of the adapter>. Served "
            "by the engines zerotide (on processors), vllm and sglang.",
        ),
        Unique("name"),
    ] = ()
    secret_ref: Annotated[
        SecretRef | None,
        Field(
            description="Secret whose keys become environment variables of the model's container, such as HF_TOKEN "
            "for gated models."
        ),
    ] = None
