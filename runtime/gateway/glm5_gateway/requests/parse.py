"""Bytes to a validated body, or one error that names the field."""

from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from glm5_gateway.errors import BadRequest, invalid, missing
from glm5_gateway.requests.fields import Body

B = TypeVar("B", bound=Body)


def parse_json(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`.

    Raises:
        InvalidRequest: it is no JSON (NaN, lone surrogates and too deep nesting included), or no object.
    """
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(None, "the body is not valid JSON", str(error), "send one JSON object in UTF-8") from error
    if not isinstance(value, dict):
        raise invalid(None, "the body must be a JSON object", f"it is a JSON {type(value).__name__}")
    return value


def validated(kind: type[B], raw: dict[str, Any]) -> B:
    """Return `raw` as `kind`.

    Raises:
        InvalidRequest: `param` names the first field that is wrong.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise _translated(error.errors(include_url=False, include_context=False), raw) from error
    except RecursionError as error:
        raise invalid(None, "the body is nested too deeply", "", "nest it less") from error


class _Fault(NamedTuple):
    """A fault, and the field that it is about."""

    path: tuple[str | int, ...]
    detail: ErrorDetails


def _translated(details: list[ErrorDetails], raw: dict[str, Any]) -> BadRequest:
    """Return the error about the first wrong field; of a union's branches the one that went deepest."""
    faults = [_Fault(_path(detail, raw), detail) for detail in details]
    first = faults[0].path[:1]
    about = [fault for fault in faults if fault.path[:1] == first]
    deepest = max(about, key=lambda fault: len(fault.path))
    same = [fault.detail for fault in about if fault.path == deepest.path]
    param = _dotted(deepest.path)
    if all(detail["type"] == "missing" for detail in same):
        return missing(param)
    why = " or ".join(dict.fromkeys(_reason(detail) for detail in same))
    if same[0]["type"] not in ("too_short", "too_long"):  # those sentences have the number already
        why += f", not {_shown(same[0]['input'])}"
    return invalid(param, f"`{param}` is wrong", why)


def _path(detail: ErrorDetails, raw: Any) -> tuple[str | int, ...]:
    """Return the place in the body; pydantic's location without the names of union branches."""
    path: list[str | int] = []
    here = raw
    steps = detail["loc"]
    for place, step in enumerate(steps):
        if _has(here, step):
            here = here[step]
        elif not (detail["type"] == "missing" and place == len(steps) - 1):
            continue
        path.append(step)
    return tuple(path)


def _has(here: Any, step: str | int) -> bool:
    """Return whether `step` leads on from `here`."""
    if isinstance(here, list):
        return isinstance(step, int) and step < len(here)
    return isinstance(here, dict) and step in here


def _dotted(path: tuple[str | int, ...]) -> str:
    """Return `messages[0].content` for ("messages", 0, "content")."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:64]}" for step in path)
    return text.removeprefix(".")


def _reason(detail: ErrorDetails) -> str:
    """Return pydantic's sentence as part of ours."""
    words = detail["msg"].replace(" after validation", "")
    for thing in ("Input", "List", "String", "Value"):
        words = words.replace(f"{thing} should", "it should")
    return words


def _shown(value: Any) -> str:
    """Return a short picture of a wrong value."""
    if isinstance(value, str | int | float | bool) or value is None:
        text = repr(value)
        return text if len(text) <= 64 else f"{text[:61]}..."
    return {"dict": "an object", "list": "a list"}.get(type(value).__name__, type(value).__name__)
