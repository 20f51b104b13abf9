"""Answers as bytes: JSON, errors in OpenAI's shape, server-sent events."""

import json
from typing import Any

from starlette.responses import Response

from glm5_gateway.errors import error_body, retry_after
from glm5_wire.errors import ServiceError

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def dumps(value: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(dumps(value), status, headers, media_type="application/json")


def error_response(error: ServiceError) -> Response:
    """Return an error with its status, and Retry-After where another try is promising."""
    headers = {}
    if (seconds := retry_after(error)) is not None:
        headers["retry-after"] = seconds
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response(error_body(error), error.http_status, headers)


def event(value: Any) -> bytes:
    """Return one server-sent event."""
    return b"data: " + dumps(value) + b"\n\n"
