"""Log lines: one JSON object each, with a constant message and keys; or text for people."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "settings", "k8s_ref"}


class Formatter(logging.Formatter):
    """Write a record and its extra keys on one line, as JSON or as text."""

    converter = time.gmtime  # type: ignore[assignment]

    def __init__(self, form: Literal["json", "text"]) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        stamp = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._form == "text":
            words = " ".join([record.getMessage(), *(f"{key}={value}" for key, value in extra.items())])
            flat = words.replace("\r", "\\r").replace("\n", "\\n")
            return f"{stamp} {record.levelname.lower():7} {flat}\n{trace}".rstrip()
        line = {"time": stamp, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        return json.dumps({**line, **extra, **({"exception": trace} if trace else {})}, default=str, ensure_ascii=False)


def set_up(form: Literal["json", "text"], level: str) -> None:
    """Send every record of `level` and above to stderr; libraries only warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
