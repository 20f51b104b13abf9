"""How the operator writes its log: lines of text, or one JSON object a line."""

import json
import logging
import sys
from datetime import UTC, datetime

from glm5_operator.settings import Settings


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat()
        line = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def start(settings: Settings) -> None:
    """Send log records to stderr; libraries speak from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("glm5_operator").setLevel(settings.log_level.upper())
    # kopf reports each attempt to reach an API server that is away as an error; what ends it we report ourselves.
    logging.getLogger("kopf").setLevel(logging.CRITICAL)
