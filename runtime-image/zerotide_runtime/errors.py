"""Everything that can go wrong, one class per cause.

RuntimeFailure
├── StartError                 ends the process; `reason` is what the operator shows
│   ├── SettingsError              InvalidSettings
│   ├── ModelNotFound              ModelNotFound
│   ├── CredentialsMissing         CredentialsMissing
│   ├── ModelDownloadFailed        ModelDownloadFailed
│   ├── InvalidModel               InvalidModel
│   │   └── GGUFError
│   ├── UnsupportedModel           UnsupportedModel
│   ├── OutOfMemory                OutOfMemory
│   ├── DeviceFailed               DeviceFailed: the GPU or its driver refuses a call
│   ├── NoModel                    NoModel: an order that needs a model came to a process that stands by
│   ├── ModelTaken                 ModelTaken: an order to take in a second one
│   └── ListenError                ListenFailed
└── RequestError               ends one request; the protocols turn it into their own shape
    ├── InvalidRequest             the client's fault, `param` names the field
    │   ├── TemplateError          the chat template refuses these messages
    │   ├── GrammarInvalid         a grammar or a schema that cannot be followed
    │   └── GrammarUnsupported     this server holds no answers to grammars
    ├── Overloaded                 too many requests at once
    ├── NotReady                   stopping, or the model is not loaded yet
    └── GenerationFailed           the engine broke off
"""

from __future__ import annotations


class RuntimeFailure(Exception):
    """Root of this package's errors."""


class StartError(RuntimeFailure):
    """The process cannot serve; it ends with this reason."""

    reason = "StartFailed"


class SettingsError(StartError):
    """A flag or an environment variable has no sense."""

    reason = "InvalidSettings"


class ModelNotFound(StartError):
    """There is no model at the given location."""

    reason = "ModelNotFound"


class CredentialsMissing(StartError):
    """The model's host wants a token, or refuses the one it got."""

    reason = "CredentialsMissing"


class ModelDownloadFailed(StartError):
    """The model's host cannot be reached or broke off."""

    reason = "ModelDownloadFailed"


class InvalidModel(StartError):
    """The model's files contradict each other or themselves."""

    reason = "InvalidModel"


class GGUFError(InvalidModel):
    """A GGUF file is damaged or uses something this reader does not know."""


class UnsupportedModel(StartError):
    """The model is sound, but this engine cannot run it."""

    reason = "UnsupportedModel"


class OutOfMemory(StartError):
    """The model does not fit into this process's memory."""

    reason = "OutOfMemory"


class DeviceFailed(StartError):
    """The GPU or its driver refuses a call."""

    reason = "DeviceFailed"


class NoModel(StartError):
    """There is nothing to put to sleep or to wake up yet."""

    reason = "NoModel"


class ModelTaken(StartError):
    """The process has a model already."""

    reason = "ModelTaken"


class ListenError(StartError):
    """The address cannot be listened on."""

    reason = "ListenFailed"


class RequestError(RuntimeFailure):
    """One request cannot be answered; others are not touched."""


class InvalidRequest(RequestError):
    """The request itself is wrong; `param` names the field where one is to blame."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class TemplateError(InvalidRequest):
    """The model's chat template cannot render these messages."""


class GrammarInvalid(InvalidRequest):
    """The grammar or the schema has an error, or says what cannot be followed token by token."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"grammar is not valid: {reason}")


class GrammarUnsupported(InvalidRequest):
    """Grammars are switched off here, or the model has no token that could end an answer."""

    def __init__(self) -> None:
        super().__init__("grammar is not supported")


class Overloaded(RequestError):
    """More requests are in hand than the bound allows."""


class NotReady(RequestError):
    """The model is not loaded yet, or the process is stopping."""


class GenerationFailed(RequestError):
    """The engine broke off in the middle of a generation."""
