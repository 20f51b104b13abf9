"""The OpenAPI document: what each route takes, and every status that it can give."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from glm5_gateway.http import shapes
from glm5_gateway.requests.chat import ChatBody
from glm5_gateway.requests.completion import CompletionBody
from glm5_gateway.requests.tokens import DetokenizeBody, TokenizeBody

_BODIES: tuple[type[BaseModel], ...] = (ChatBody, CompletionBody, TokenizeBody, DetokenizeBody)
_WORDS = {
    400: "A field is wrong or not supported; `param` names it.",
    401: "The API key is missing or unknown.",
    404: "The model is not served here.",
    413: "The body is too large.",
    429: "The queue is full.",
    500: "A bug of ours.",
    503: "Nobody can answer now; the message says why.",
    504: "The request took too long.",
}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}
_ID = {"x-request-id": {"description": "The one of the request, or a new one.", "schema": {"type": "string"}}}


def _route(
    summary: str, good: dict[str, Any], errors: Iterable[int], body: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return the keyword arguments of a FastAPI route."""
    responses: dict[int | str, Any] = {200: good | {"headers": _ID}}
    for status in (401, *errors):
        headers = _ID | (_RETRY if status in (429, 503, 504) else {})
        responses[status] = _content(_WORDS[status], "Error") | {"headers": headers}
    extra: dict[str, Any] = {}
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": responses, "openapi_extra": extra, "response_model": None}


def _content(words: str, name: str) -> dict[str, Any]:
    """Return a response of JSON."""
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _generated(words: str, name: str) -> dict[str, Any]:
    """Return a response of JSON, or of events with `stream`."""
    response = _content(words, name)
    response["content"]["text/event-stream"] = {}
    return response


_GENERATE_ERRORS = (400, 404, 413, 429, 500, 503, 504)
CHAT = _route("Answer a conversation", _generated("The answer.", "ChatCompletion"), _GENERATE_ERRORS, ChatBody)
COMPLETION = _route("Continue a prompt", _generated("The output.", "Completion"), _GENERATE_ERRORS, CompletionBody)
TOKENIZE = _route("Text to tokens", _content("The tokens.", "Tokens"), (400, 404, 413, 500), TokenizeBody)
DETOKENIZE = _route("Tokens to text", _content("The text.", "TokenText"), (400, 404, 413, 500), DetokenizeBody)
MODELS = _route("List models", _content("The models.", "Models"), ())
HEALTH = _route("Alive?", _content("Alive.", "Status"), ())
READY = _route("Ready?", _content("Requests are answered.", "Status"), (503,))
VERSION = _route("Version", _content("The version.", "Version"), ())
METRICS = _route("Metrics", {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}, ())


def paths(app: FastAPI) -> list[str]:
    """Return the paths of all routes."""
    return [route.path for route in app.routes if hasattr(route, "path")]


def install(app: FastAPI, *, secured: bool) -> None:
    """Have `app` serve the document.

    Args:
        app: with all its routes.
        secured: whether keys are asked for.
    """
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(_document(app, secured))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, secured: bool) -> dict[str, Any]:
    """Return the whole document."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(shapes.SCHEMAS)
    for body in _BODIES:
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
    if secured:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document
