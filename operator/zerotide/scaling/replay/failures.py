"""Why a trace is not replayed, or not priced.

ReplayError
├── InvalidTrace    it cannot be read, or thinned in that way
├── InvalidPrices   figures with which nothing can be reckoned
└── EmptyHoldout    nothing came in the part on which policies are judged
"""

from __future__ import annotations

from zerotide.api.failures import ApiError


class ReplayError(ApiError):
    """A trace cannot be replayed."""


class InvalidTrace(ReplayError):
    """A trace cannot be read, or thinned in that way."""


class InvalidPrices(ReplayError):
    """A price with which nothing can be reckoned."""


class EmptyHoldout(ReplayError):
    """No request came in the part of a trace on which policies are judged."""
