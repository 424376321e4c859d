"""From a model's location to a folder on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zerotide_runtime.errors import CredentialsMissing, ModelDownloadFailed, ModelNotFound, SettingsError

# Weights in other formats may run code when they are opened, so they are not even fetched.
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja"]
# Of folders only those that sentence-transformers numbers, for how a model embeds.
HUB_EXCLUDED = ["[!0-9]*/*", "*/*.safetensors", "consolidated*"]


@dataclass(frozen=True)
class HubModel:
    """A repository of the Hugging Face Hub, at a revision."""

    repository: str
    revision: str | None


def parse_location(uri: str) -> Path | HubModel:
    """Read a location; raise SettingsError for schemes that this runtime does not know."""
    if "://" not in uri:
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme in ("image", "file"):
        if parts.netloc:
            raise SettingsError(f"{uri} has a host part; write {parts.scheme}:///{parts.netloc}{parts.path}")
        return Path(unquote(parts.path))
    if parts.scheme == "hf":
        repository, _, revision = (
            (parts.netloc + parts.path).partition("@") if "@" not in parts.netloc else ("", "", "")
        )
        if repository.strip("/").count("/") != 1:
            raise SettingsError(f"{uri} must have the form hf://organisation/name or hf://organisation/name@revision")
        return HubModel(repository.strip("/"), revision or None)
    raise SettingsError(f"{uri} has the scheme {parts.scheme!r}; known are image://, file://, hf:// and plain paths")


def resolve(location: Path | HubModel, cache: Path) -> Path:
    """Return the model's folder, downloading it where needed; raise a StartError that says why not."""
    if isinstance(location, HubModel):
        return download(location, cache)
    return location


def download(model: HubModel, cache: Path) -> Path:
    """Fetch a model's safetensors and text files from the Hub."""
    # Imported here: no other location needs it, and it takes a while.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = model.repository + (f"@{model.revision}" if model.revision else "")
    try:
        folder = snapshot_download(
            model.repository,
            revision=model.revision,
            cache_dir=cache,
            allow_patterns=HUB_FILES,
            ignore_patterns=HUB_EXCLUDED,
        )
    except GatedRepoError:
        raise CredentialsMissing(f"{name} is gated; put the token of an account with access into HF_TOKEN") from None
    except RevisionNotFoundError:
        raise ModelNotFound(f"{model.repository} has no revision {model.revision}") from None
    except RepositoryNotFoundError as error:
        # The Hub answers 401 for what does not exist and for what is private.
        if error.response.status_code == 404:
            raise ModelNotFound(f"the Hub has no model {name}") from None
        raise CredentialsMissing(f"the Hub has no public model {name}; a private one needs HF_TOKEN") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise CredentialsMissing(f"the Hub refuses {name} with {status}; check HF_TOKEN") from None
        raise ModelDownloadFailed(f"the Hub answered {status} for {name}") from None
    except LocalEntryNotFoundError as error:
        cause = error.__cause__ or error
        raise ModelDownloadFailed(f"{name} cannot be fetched: {type(cause).__name__}: {cause}") from None
    except Exception as error:  # the network library's own tree, timeouts, full disks
        raise ModelDownloadFailed(f"{name} cannot be fetched: {type(error).__name__}: {error}") from None
    return Path(folder)
