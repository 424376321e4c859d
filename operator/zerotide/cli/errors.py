"""Why a command ends without success; each class has one exit code.

CliError                1   something failed
├── UsageError          2   the command line cannot mean anything
├── Missing             3   what was named does not exist
├── Denied              4   the cluster or the gateway refuses the caller
├── TimedOut            5   it did not happen in time
├── StartFailed         6   the endpoint cannot start; the message says why
└── GatewayError        1   the gateway or the exporter gave no usable answer
"""

from __future__ import annotations

from zerotide.kube import ApiError, CredentialsError, Forbidden, Invalid, KubeError, NotFound, Unauthorized


class CliError(Exception):
    """A command failed; the message says what, why and what to do."""

    exit_code = 1
    code = ""
    """The gateway's code of the error, or its HTTP status, where an answer told one."""


class UsageError(CliError):
    """The command line cannot mean anything."""

    exit_code = 2


class Missing(CliError):
    """What was named does not exist."""

    exit_code = 3


class Denied(CliError):
    """The cluster or the gateway refuses the caller."""

    exit_code = 4


class TimedOut(CliError):
    """It did not happen in time."""

    exit_code = 5


class StartFailed(CliError):
    """The endpoint cannot start."""

    exit_code = 6


class GatewayError(CliError):
    """The gateway or the exporter gave no usable answer."""


def from_kube(error: KubeError) -> CliError:
    """Return the failure of a command for a failure of the API server."""
    if isinstance(error, NotFound):
        # Where the kind itself is unknown, the server says so in these words and names no object.
        if "could not find the requested resource" in str(error):
            return Missing("Zerotide is not installed on this cluster: install its chart, or see `zerotide doctor`")
        return Missing(str(error))
    if isinstance(error, Unauthorized):
        return Denied(f"the cluster does not accept your credentials: {error}. Log in again")
    if isinstance(error, Forbidden):
        return Denied(f"{error}. Ask your cluster's administrator for the permission")
    if isinstance(error, Invalid):
        return CliError(f"the cluster refuses it: {error}")
    if isinstance(error, CredentialsError):
        return CliError(str(error))
    if isinstance(error, ApiError):
        return CliError(f"the API server answered {error.status}: {error}")
    return CliError(f"the API server cannot be reached: {error}. Is KUBECONFIG the right one, and the cluster up?")
