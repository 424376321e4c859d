"""What can be wrong with what the billing core is given.

    BillingError
    ├── InvalidFact          a recorded fact whose key cannot be read back
    ├── InvalidPeriod        a period that ends before it starts
    ├── UnknownPeriod        a name of a period that means none
    ├── UnknownZone          a time zone that nobody knows
    ├── UnknownFocusVersion  a version of FOCUS that is not exported
    └── PriceBookError
        ├── InvalidPriceBook     a price file that does not have the shape of a price book; names each field
        └── OverlappingPrices    two prices for the same thing that begin at the same instant

A pod without a price is no error: it is reported as unpriced.
"""

from __future__ import annotations


class BillingError(Exception):
    """Bad input to the billing core."""


class InvalidFact(BillingError):
    """A recorded fact whose key cannot be read back."""


class InvalidPeriod(BillingError, ValueError):
    """A period that ends before it starts."""


class UnknownPeriod(BillingError, ValueError):
    """A name of a period that means none."""


class UnknownZone(BillingError, ValueError):
    """A time zone that nobody knows."""


class UnknownFocusVersion(BillingError, ValueError):
    """A version of FOCUS that is not exported."""


class PriceBookError(BillingError):
    """A price book that cannot be used."""


class InvalidPriceBook(PriceBookError):
    """A price file that does not have the shape of a price book.

    `problems` holds one `field: what is wrong` per violated rule.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(f"the price book is not valid: {'; '.join(problems)}")
        self.problems = problems


class OverlappingPrices(PriceBookError):
    """Two prices for the same thing that begin at the same instant."""
