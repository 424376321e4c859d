"""Load price files: those of others to compare with; the installation's own, or the one that ships with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml

from zerotide.billing.errors import PriceBookError
from zerotide.billing.prices import PriceBookSpec, PriceIndex, read_price_book, read_price_books
from zerotide.exporter.errors import PriceFileError


def load_market() -> dict[str, PriceBookSpec]:
    """Return the price books of others that ship with the package, by name."""
    text = files("zerotide.billing").joinpath("market.yaml").read_text()
    return read_price_books(yaml.safe_load_all(text))


def load_prices(path: Path | None) -> PriceIndex:
    """Return the prices of a file (None: the shipped one). Raises PriceFileError, which names the file."""
    name = str(path) if path else "the shipped price file"
    try:
        text = path.read_text() if path else files("zerotide.billing").joinpath("prices.yaml").read_text()
        return PriceIndex(read_price_book(yaml.safe_load(text)))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, PriceBookError) as error:
        raise PriceFileError(f"{name}: {error}") from error
