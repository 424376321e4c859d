"""Log lines: one JSON object each, with a constant message and keys; or text for people."""

from __future__ import annotations

import json
import logging
import sys
import time

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """Write a record and its extra keys as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Write a record and its extra keys as a line that people read."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; control characters in values are escaped."""
        extra = " ".join(f"{key}={json.dumps(str(value))[1:-1]}" for key, value in _extra(record).items())
        return f"{super().format(record)}{' ' if extra else ''}{extra}"


def set_up(form: str, level: str) -> None:
    """Send log records to stderr; form is json or text."""
    formatter = JSONFormatter() if form == "json" else TextFormatter("%(asctime)s %(levelname)s %(message)s")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
