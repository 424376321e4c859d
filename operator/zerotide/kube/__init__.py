"""A thin asynchronous Kubernetes client on plain dicts: what every process of Zerotide shares."""

from zerotide.kube.access import Identity, TokenReviewer, allowed
from zerotide.kube.client import Client, Listing, Object
from zerotide.kube.clock import Clock
from zerotide.kube.credentials import Credentials, TokenFile, load_credentials
from zerotide.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    ConnectionFailed,
    CredentialsError,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from zerotide.kube.events import Notice, Recorder
from zerotide.kube.lease import Elector
from zerotide.kube.packed import Packed
from zerotide.kube.reflector import Change, Key, Linger, Reflector, key_of
from zerotide.kube.resources import Resource

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Change",
    "Client",
    "Clock",
    "Conflict",
    "ConnectionFailed",
    "Credentials",
    "CredentialsError",
    "Elector",
    "Forbidden",
    "Gone",
    "Identity",
    "Invalid",
    "Key",
    "KubeError",
    "Linger",
    "Listing",
    "NotFound",
    "Notice",
    "Object",
    "Packed",
    "Recorder",
    "Reflector",
    "Resource",
    "TokenFile",
    "TokenReviewer",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "allowed",
    "key_of",
    "load_credentials",
]
