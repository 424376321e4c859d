"""The base of every API type: frozen models with camelCase fields, bounded building blocks and lenient parsing.

People's YAML is checked strictly (`model_validate`: unknown fields are errors); objects that come from the API
server are read with `parse`, which ignores fields that a newer version may have added. Fields that are absent stay
absent in `dump`, so that an object written back claims nothing that it does not mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from zerotide.api.bounds import Amount, Immutable, Keys, Matches, Span, Unique
from zerotide.api.failures import InvalidObject
from zerotide.api.rules import Rule
from zerotide.api.scalars import (
    Duration,
    Quantity,
    format_duration,
    format_micro_time,
    format_time,
    parse_duration,
    parse_quantity,
    parse_time,
)

__all__ = [
    "Amount",
    "Duration",
    "Immutable",
    "Keys",
    "Matches",
    "Model",
    "Name",
    "Object",
    "ObjectMeta",
    "Quantity",
    "Rule",
    "Span",
    "Time",
    "Unique",
    "describe",
    "format_duration",
    "format_micro_time",
    "format_time",
    "parse_duration",
    "parse_quantity",
    "parse_time",
]


class Model(BaseModel):
    """A frozen object of the API; its rules span fields and hold on the API server as well."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_alias=True, validate_by_name=True
    )
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        if not self.RULES:
            return self
        broken = [rule for rule in self.RULES if not rule.holds(self)]
        if broken:
            raise ValueError("; ".join(rule.message for rule in broken))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        result = handler.resolve_ref_schema(handler(schema))
        if cls.RULES:
            result["x-kubernetes-validations"] = [rule.validation() for rule in cls.RULES]
        return result

    def dump(self) -> dict[str, Any]:
        """Return the object as the API server takes it: camelCase, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ObjectMeta(Model):
    """The part of an object's metadata that Zerotide reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Object(Model):
    """A custom resource; subclasses say `kind` and the type of `spec`."""

    api_version: str
    kind: str
    metadata: ObjectMeta

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @classmethod
    def parse(cls, obj: Mapping[str, Any]) -> Self:
        """Read an object of the API server, ignoring fields that this version does not know.

        Raises InvalidObject, which names every field that does not fit and why.
        """
        try:
            return cls.model_validate(obj, extra="ignore")
        except ValidationError as error:
            metadata = obj.get("metadata") or {}
            name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
            raise InvalidObject(cls.__name__, name, describe(error)) from error


def describe(error: ValidationError) -> tuple[str, ...]:
    """Return one `field: what is wrong` per problem that pydantic found."""
    problems = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{field}: {message}" if field else message)
    return tuple(problems)


def _time(value: str) -> str:
    parse_time(value)
    return value


Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""The name of another object in the same namespace."""

Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"}), AfterValidator(_time)]
"""An RFC 3339 time; `parse_time` reads it."""
