"""Log lines of every process: one JSON object each, with a constant message and keys; or text for people."""

from __future__ import annotations

import json
import logging
import sys
import time

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "settings", "k8s_ref"}


class Formatter(logging.Formatter):
    """Write a record and its extra keys on one line; control characters in values are escaped in both forms."""

    converter = time.gmtime  # type: ignore[assignment]

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; in text, a trace follows on lines of its own."""
        stamp = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        level, message = record.levelname.lower(), record.getMessage()
        if self._form == "text":
            keys = " ".join(f"{key}={_escaped(value)}" for key, value in extra.items())
            return f"{stamp} {level:7} {_escaped(message)} {keys}".rstrip() + (f"\n{trace}" if trace else "")
        line = {"time": stamp, "level": level, "logger": record.name, "message": message, **extra}
        return json.dumps({**line, **({"exception": trace} if trace else {})}, default=str, ensure_ascii=False)


def set_up(form: str, level: str = "info") -> None:
    """Send every record of `level` and above to stderr, as `json` or as `text`; libraries only warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _escaped(value: object) -> str:
    return json.dumps(str(value))[1:-1]
