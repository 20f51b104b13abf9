"""Errors of the gateway: the wire's taxonomy with the words that OpenAI's clients know."""

from typing import Any

from glm5_wire.errors import (
    Draining,
    Incompatible,
    InvalidRequest,
    NotFound,
    QueueFull,
    ServiceError,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_KINDS: dict[type[ServiceError], tuple[str, str]] = {
    InvalidRequest: ("invalid_request_error", "invalid_value"),
    TooLarge: ("invalid_request_error", "request_too_large"),
    NotFound: ("invalid_request_error", "not_found"),
    Unauthenticated: ("authentication_error", "invalid_api_key"),
    QueueFull: ("rate_limit_error", "queue_full"),
    Unavailable: ("service_unavailable_error", "unavailable"),
    Draining: ("service_unavailable_error", "draining"),
    Incompatible: ("service_unavailable_error", "incompatible"),
    TimedOut: ("timeout_error", "timeout"),
}
"""Error class to OpenAI's `type` and `code`."""


class BadRequest(InvalidRequest):
    """A field is wrong; `word` is OpenAI's `code`."""

    def __init__(self, what: str, why: str = "", cure: str = "", *, param: str | None, word: str) -> None:
        super().__init__(what, "", why, cure, param=param)
        self.word = word


def unsupported(param: str, why: str = "", cure: str = "leave it out") -> BadRequest:
    """Return the error for a field that is known, but does nothing here."""
    return BadRequest(f"`{param}` is not supported", why, cure, param=param, word="unsupported_parameter")


def missing(param: str) -> BadRequest:
    """Return the error for a required field that is absent."""
    return BadRequest(f"`{param}` is missing", param=param, word="missing_required_parameter")


def invalid(param: str | None, what: str, why: str = "", cure: str = "") -> BadRequest:
    """Return the error for a wrong value."""
    return BadRequest(what, why, cure, param=param, word="invalid_value")


def unknown_model(name: str, served: list[str]) -> NotFound:
    """Return the error for a model that is not served here."""
    error = NotFound(
        f"the model `{name[:128]}` does not exist", "", "", f"choose from {', '.join(served)}", param="model"
    )
    return error


def error_body(error: ServiceError) -> dict[str, Any]:
    """Return `error` as OpenAI's clients expect it."""
    kind, word = next(
        (words for leaf, words in _KINDS.items() if isinstance(error, leaf)), ("server_error", "internal")
    )
    if isinstance(error, BadRequest):
        word = error.word
    elif isinstance(error, NotFound) and error.param == "model":
        word = "model_not_found"
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": word}}


def retry_after(error: ServiceError) -> str | None:
    """Return the value of a Retry-After header, in whole seconds; None where another try is pointless."""
    if not error.retriable:
        return None
    return str(max(1, round(error.retry_after or 1)))
