"""What happens to every HTTP request before and after its route: id, key, size, HEAD, log, count."""

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glm5_gateway.http.reply import error_response
from glm5_gateway.keys import Keys
from glm5_gateway.metrics import REQUESTS
from glm5_wire.errors import ServiceError, TooLarge
from glm5_wire.tracing import continued_span

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready", "/openapi.json"})
"""They need no key."""
_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Edge:
    """Wraps the application.

    Args:
        app: the routes.
        keys: who may enter.
        max_body_bytes: larger bodies are a 413.
        paths: the known paths, for the label of the metric.
        draining: whether connections should be closed after their answer.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, max_body_bytes: int, paths: frozenset[str], draining: Callable[[], bool]
    ) -> None:
        self._app, self._keys, self._max_body, self._paths = app, keys, max_body_bytes, paths
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        seen = _Seen(given if _ID.fullmatch(given) else uuid.uuid4().hex, self._draining)
        inner = dict(scope)
        if scope["method"] == "HEAD":  # the server itself leaves the body out
            inner["method"] = "GET"
        inner["state"] = {**scope.get("state", {}), "request_id": seen.request_id}
        route = scope["path"] if scope["path"] in self._paths else "other"
        try:
            with continued_span(f"{scope['method']} {route}", headers):
                await self._enter(inner, headers, receive, seen.wrap(send))
        finally:
            REQUESTS.labels(route, str(seen.status)).inc()
            seconds = time.monotonic() - seen.began
            level = logging.DEBUG if scope["method"] in ("GET", "HEAD") else logging.INFO
            words = "request done route=%s status=%s seconds=%.3f id=%s"
            log.log(level, words, route, seen.status, seconds, seen.request_id)

    async def _enter(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Check key and size, then go on to the route."""
        try:
            client = scope.get("client")
            owner = client[0] if client else "local"
            if scope["path"] not in OPEN_PATHS:
                owner = self._keys.owner(headers.get("authorization", ""), owner)
            scope["state"]["owner"] = owner
            self._check_size(headers)
        except ServiceError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_size(self, headers: Headers) -> None:
        """Refuse a body that says that it is too large."""
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._max_body:
            raise too_large(self._max_body)


class _Seen:
    """Watches an answer go out, and adds the headers that every answer has."""

    def __init__(self, request_id: str, draining: Callable[[], bool]) -> None:
        self.request_id, self._draining = request_id, draining
        self.status: int | str = "gone"
        """`gone` where the client left before the status."""
        self.began = time.monotonic()

    def wrap(self, send: Send) -> Send:
        """Return `send` with an eye on it."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = self.request_id
                if self._draining():
                    headers["connection"] = "close"
            await send(message)

        return watched


def too_large(limit: int) -> TooLarge:
    """Return the error for a body above `limit` bytes."""
    return TooLarge("the body is too large", "", f"at most {limit} bytes are allowed", "send less")
