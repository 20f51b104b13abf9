"""The application: every route, and errors in OpenAI's shape for whatever is no route."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from glm5_gateway.api import Api, Call
from glm5_gateway.errors import error_body, invalid
from glm5_gateway.http import openapi
from glm5_gateway.http.answering import Answering
from glm5_gateway.http.edge import Edge, too_large
from glm5_gateway.http.reply import error_response, json_response
from glm5_gateway.keys import Keys
from glm5_gateway.requests.parse import parse_json
from glm5_wire.errors import ServiceError
from glm5_wire.metrics import REGISTRY

_BODY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Front:
    """What the routes need besides the API itself."""

    keys: Keys
    max_body_bytes: int
    hold_seconds: float
    leaving: asyncio.Event
    """Set when running calls have to end."""
    draining: Callable[[], bool]


def build_app(api: Api, front: Front) -> ASGIApp:
    """Return the ASGI application."""
    app = FastAPI(title="glm5-serve", version=version("glm5-serve"), docs_url=None, redoc_url=None)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    _add_generation(app, api, front)
    _add_tokens(app, api, front)
    _add_facts(app, api)
    openapi.install(app, secured=front.keys.wanted)
    return Edge(app, front.keys, front.max_body_bytes, frozenset(openapi.paths(app)), front.draining)


def _add_generation(app: FastAPI, api: Api, front: Front) -> None:
    """Add the routes that generate."""

    async def run(request: Request, prepare: Callable[[dict[str, Any], str], Awaitable[Call]]) -> Response:
        raw = await _body(request, front.max_body_bytes)
        return Answering(await prepare(raw, request.state.owner), front.hold_seconds, front.leaving)

    @app.post("/v1/chat/completions", **openapi.CHAT)
    async def create_chat_completion(request: Request) -> Response:
        """Answer a conversation."""
        return await run(request, api.chat)

    @app.post("/v1/completions", **openapi.COMPLETION)
    async def create_completion(request: Request) -> Response:
        """Go on with a prompt."""
        return await run(request, api.complete)


def _add_tokens(app: FastAPI, api: Api, front: Front) -> None:
    """Add the routes between text and tokens."""

    @app.post("/tokenize", **openapi.TOKENIZE)
    async def tokenize(request: Request) -> Response:
        """Turn a text or a conversation into token ids."""
        return json_response(await api.tokenize(await _body(request, front.max_body_bytes)))

    @app.post("/detokenize", **openapi.DETOKENIZE)
    async def detokenize(request: Request) -> Response:
        """Turn token ids into text."""
        return json_response(api.detokenize(await _body(request, front.max_body_bytes)))


def _add_facts(app: FastAPI, api: Api) -> None:
    """Add the routes that only tell something."""

    @app.get("/v1/models", **openapi.MODELS)
    async def list_models() -> Response:
        """Name what is served."""
        return json_response(api.models())

    @app.get("/health", **openapi.HEALTH)
    async def health() -> Response:
        """Say that this process is alive."""
        return json_response({"status": "ok"})

    @app.get("/ready", **openapi.READY)
    async def ready() -> Response:
        """Say whether requests are answered now."""
        if api.workers.missing():
            return error_response(api.workers.unavailable())
        return json_response({"status": "ready"})

    @app.get("/version", **openapi.VERSION)
    async def tell_version() -> Response:
        """Name this build."""
        return json_response({"version": version("glm5-serve")})

    @app.get("/metrics", **openapi.METRICS)
    async def metrics() -> Response:
        """Show this process's metrics in Prometheus' format."""
        return PlainTextResponse(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _body(request: Request, limit: int) -> dict[str, Any]:
    """Return the JSON body.

    Raises:
        TooLarge: it has more bytes than allowed.
        InvalidRequest: it is no JSON object, or does not arrive in time.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > limit:
                    raise too_large(limit)
    except TimeoutError as error:
        raise invalid(None, "the body did not arrive", f"within {_BODY_SECONDS:g} s", "send it faster") from error
    return parse_json(bytes(data))


async def _on_service_error(request: Request, error: Exception) -> Response:
    """Answer with the error's own status."""
    assert isinstance(error, ServiceError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Answer 404 and 405 in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    words = {
        404: f"there is no {request.url.path[:256]}",
        405: f"{request.url.path[:256]} does not take {request.method}",
    }
    body = error_body(invalid(None, words.get(error.status_code, str(error.detail))))
    body["error"]["code"] = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_value")
    return json_response(body, error.status_code, dict(error.headers or {}))
