"""What can be wrong with what this package is given.

    ApiError
    ├── InvalidObject         a custom resource that does not parse; names each field and rule
    ├── InvalidScalar
    │   ├── InvalidCron
    │   ├── InvalidDuration
    │   ├── InvalidQuantity
    │   └── InvalidTime
    ├── InvalidUri            text that is no model.uri
    ├── InvalidKey
    │   ├── MalformedKey      not of the form zt_<name>_<secret><checksum>
    │   └── KeyChecksumMismatch   mistyped or cut: cannot be any key
    ├── InvalidSecret         a Secret's text that nothing can be signed with
    ├── InvalidRecord         a usage record that does not parse
    ├── InvalidMessage        a line of the demand stream that does not parse
    └── Rejection             (errors.py) a request that is answered with a row of the error table

The scalars are ValueErrors too, so that pydantic reports them at their field.
"""

from __future__ import annotations


class ApiError(Exception):
    """Bad input to the API package, or a request that must be refused."""


class InvalidObject(ApiError):
    """A custom resource that does not parse.

    `problems` holds one `field: what is wrong` per violated rule.
    """

    def __init__(self, kind: str, name: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{kind} {name} is not valid: {'; '.join(problems)}")
        self.kind = kind
        self.name = name
        self.problems = problems


class InvalidScalar(ApiError, ValueError):
    """Text that is not the scalar that it should be."""


class InvalidCron(InvalidScalar):
    """Text that is no cron expression."""


class InvalidDuration(InvalidScalar):
    """Text that is not a Gateway API duration."""


class InvalidQuantity(InvalidScalar):
    """Text that is not a Kubernetes quantity."""


class InvalidTime(InvalidScalar):
    """Text that is not an RFC 3339 time."""


class InvalidUri(ApiError, ValueError):
    """Text that is no `model.uri`."""


class InvalidKey(ApiError):
    """Text that cannot be an API key."""


class MalformedKey(InvalidKey):
    """Text that has not the form of an API key."""


class KeyChecksumMismatch(InvalidKey):
    """An API key that was mistyped or cut."""


class InvalidSecret(ApiError):
    """Text of a Secret that is no signing key; the message repeats nothing of it."""


class InvalidRecord(ApiError):
    """A usage record that does not parse."""


class InvalidMessage(ApiError):
    """A line of the demand stream that does not parse."""
