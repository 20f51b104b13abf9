"""Logs of a role: one line an event, as text for people or as JSON for machines."""

import json
import logging
import sys
import time

from glm5_spec.settings import RoleSettings


def start_logging(settings: RoleSettings) -> None:
    """Send every log line to stderr, in the form that the settings ask for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(settings.role, settings.name) if settings.telemetry.json_logs else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("uvicorn", "opentelemetry", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Text(logging.Formatter):
    """`12:34:56.789 INFO glm5_wire.registry: message`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%H:%M:%S")


class _Json(logging.Formatter):
    """One JSON object a line: time, level, logger, role, name, message, and the traceback where there is one."""

    def __init__(self, role: str, name: str) -> None:
        super().__init__()
        self._role, self._name = role, name

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "role": self._role,
            "name": self._name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
