"""Read what users keep in a Secret of their own, which a Role of theirs has to let us read."""

from __future__ import annotations

from zerotide.kube.client import Client
from zerotide.kube.errors import Forbidden, KubeError, NotFound, SecretUnreadable
from zerotide.kube.resources import SECRETS


async def read_secret(client: Client, namespace: str, name: str, key: str, account: str) -> str | None:
    """Return what a Secret holds under a key, in base64; None where it has no such key.

    `account` is the ServiceAccount that reads it. Raises SecretUnreadable, whose message is for who named the Secret.
    """
    try:
        found = await client.get(SECRETS, name, namespace)
    except NotFound as error:
        raise SecretUnreadable(f"there is no Secret {name}") from error
    except Forbidden as error:
        how = f"bind a Role that lets {account} get it"
        raise SecretUnreadable(f"Secret {name} may not be read: {how}") from error
    except KubeError as error:
        raise SecretUnreadable(f"Secret {name} cannot be read: {type(error).__name__}") from error
    held = (found.get("data") or {}).get(key)
    return held if isinstance(held, str) else None
