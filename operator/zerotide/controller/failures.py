"""What can go wrong in the operator itself.

ControllerError
├── SettingsError       a flag or environment variable that cannot be used
├── NotLeading          a write was about to happen without the lease
├── StreamBroken        an activator's demand stream ended, stalled or was refused
├── CostsUnknown        the exporter does not say what endpoints cost
├── EngineSilent        an engine does not say what its load is
├── PingFailed          a replica did not answer a ping, or with an error
└── NoToken             an engine that was asked for a token gave none
"""

from __future__ import annotations


class ControllerError(Exception):
    """A failure of the operator itself."""


class SettingsError(ControllerError):
    """A flag or environment variable that cannot be used."""


class NotLeading(ControllerError):
    """A write was about to happen without the lease."""


class StreamBroken(ControllerError):
    """An activator's demand stream ended, stalled or was refused."""


class CostsUnknown(ControllerError):
    """The exporter does not say what endpoints cost."""


class EngineSilent(ControllerError):
    """An engine does not say what its load is."""


class PingFailed(ControllerError):
    """A replica did not answer a ping, or with an error."""


class NoToken(ControllerError):
    """An engine that was asked for a token gave none; the message says what it answered."""
