"""Follow the price book of the cluster; without one, the price file holds.

A book that cannot be used (two prices of the same thing that begin at the same instant are nothing that the API server
could find) changes nothing: the prices that held go on to hold, and the log names it.
"""

from __future__ import annotations

import logging

from zerotide.api.failures import InvalidObject
from zerotide.api.pricebook import PriceBook
from zerotide.billing.errors import PriceBookError
from zerotide.billing.prices import PriceIndex
from zerotide.kube import Change, Client, Reflector
from zerotide.kube.resources import PRICE_BOOKS

log = logging.getLogger(__name__)


class PriceWatch:
    """Hold the prices that bills are made with: those of the PriceBook `name` once there is one."""

    def __init__(self, client: Client, name: str, otherwise: PriceIndex) -> None:
        self.index = otherwise
        self.reflector = Reflector(client, PRICE_BOOKS, field_selector=f"metadata.name={name}", on_change=self._changed)
        self._name, self._otherwise = name, otherwise

    def current(self) -> PriceIndex:
        """Return the prices that hold now."""
        return self.index

    def _changed(self, change: Change) -> None:
        if change.object["metadata"]["name"] != self._name:
            return
        if change.type == "deleted":
            log.warning("the price book is gone: the price file holds again", extra={"book": self._name})
            self.index = self._otherwise
            return
        try:
            self.index = PriceIndex(PriceBook.parse(change.object).spec)
        except (InvalidObject, PriceBookError) as error:
            log.error("the price book cannot be used", extra={"book": self._name, "error": str(error)})
        else:
            log.info("prices", extra={"book": self._name, "prices": len(self.index.book.prices)})
