"""The flags of every process, each with an environment variable as its default; an empty variable is none."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zerotide.api.egress import Egress
from zerotide.api.failures import InvalidDuration, InvalidQuantity
from zerotide.api.scalars import parse_duration, parse_quantity

FORMATS = ("json", "text")
LEVELS = ("debug", "info", "warning", "error")


class Flags:
    """Flags to be read; values that make no sense raise `refused`, the process's own error."""

    def __init__(self, module: str, description: str, environment: Mapping[str, str], refused: type[Exception]) -> None:
        self._environment, self._refused = environment, refused
        self._parser = argparse.ArgumentParser(
            prog=f"python -m {module}",
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def add(self, name: str, default: str, text: str, variable: str = "") -> None:
        """Declare a flag; its variable is ZEROTIDE_ and its name unless another one is given."""
        variable = variable or "ZEROTIDE_" + name.upper().replace("-", "_")
        value = self._environment.get(variable) or default
        self._parser.add_argument(f"--{name}", dest=name, default=value, help=f"{text} [{variable}]")

    def read(self, arguments: Sequence[str] | None) -> Given:
        """Read what is given, with the flags of logging on top; exit for --help and unknown flags as argparse does."""
        self.add("log-format", "json", "json, or text for people")
        self.add("log-level", "info", ", ".join(LEVELS))
        return Given(vars(self._parser.parse_args(arguments)), self._refused)


class Given:
    """What was given, each by its flag's name; raises the process's own error, which names the flag."""

    def __init__(self, values: Mapping[str, str], refused: type[Exception]) -> None:
        self._values, self._refused = values, refused

    @property
    def log_format(self) -> str:
        """Return how log lines are written."""
        return self.choice("log-format", FORMATS)

    @property
    def log_level(self) -> str:
        """Return from which level on records are logged."""
        return self.choice("log-level", LEVELS)

    def text(self, name: str) -> str:
        """Return a flag as it is."""
        return self._values[name]

    def path(self, name: str) -> Path | None:
        """Return a file or folder, None where the flag is empty."""
        return Path(self._values[name]) if self._values[name] else None

    def number(self, name: str, most: int = 65535, *, least: int = 0) -> int:
        """Return a whole number, by default that of a port."""
        text = self._values[name]
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise self._refused(f"--{name} {text!r}: give a number from {least} to {most}")
        return int(text)

    def duration_us(self, name: str) -> int:
        """Return a duration in microseconds."""
        try:
            return parse_duration(self._values[name])
        except InvalidDuration as error:
            raise self._refused(f"--{name}: {error}") from error

    def size(self, name: str, *, least: int = 1) -> int:
        """Return a number of bytes, given as Kubernetes writes quantities."""
        text = self._values[name]
        try:
            size = int(parse_quantity(text))
        except InvalidQuantity as error:
            raise self._refused(f"--{name}: {error}") from error
        if size < least:
            raise self._refused(f"--{name} {text!r}: give {least} bytes at least")
        return size

    def egress(self, name: str) -> Egress:
        """Return where users' URLs may lead, given as CIDR blocks with commas between them."""
        text = self._values[name]
        try:
            return Egress.of(block for block in text.split(",") if block.strip())
        except ValueError as error:
            raise self._refused(f"--{name} {text!r}: give CIDR blocks: {error}") from error

    def json(self, name: str, kind: type, empty: Any) -> Any:
        """Return a JSON object (`dict`) or list, or what stands for an empty flag."""
        text = self._values[name]
        try:
            value = json.loads(text) if text.strip() else empty
        except ValueError as error:
            raise self._refused(f"--{name} must be JSON: {error}") from error
        if value is not empty and not isinstance(value, kind):
            raise self._refused(f"--{name} must be a JSON {'object' if kind is dict else 'list'}, not {text!r}")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return a flag that is one of some words."""
        text = self._values[name]
        if text not in choices:
            *others, last = choices
            raise self._refused(f"--{name} {text!r}: choose {', '.join(others)} or {last}")
        return text
