"""OpenAI messages in the shape that GLM's chat templates want."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from glm5_wire.errors import InvalidRequest


def prepared(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return `messages` with text content, `reasoning_content`, and tool arguments as mappings.

    Args:
        messages: validated messages without their absent fields.

    Raises:
        InvalidRequest: a part is no text, or arguments are no JSON object; `param` names the place.
    """
    return [_prepared(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _prepared(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return one message."""
    result = dict(message)
    result["role"] = "system" if message["role"] == "developer" else message["role"]
    result["content"] = _text(message.get("content"), f"{place}.content")
    if (reasoning := result.pop("reasoning", None)) is not None:
        result.setdefault("reasoning_content", reasoning)
    calls = result.pop("tool_calls", None)
    if calls:
        result["tool_calls"] = [_call(call, f"{place}.tool_calls[{n}]") for n, call in enumerate(calls)]
    return result


def _text(content: Any, place: str) -> str:
    """Return the text of a content, which may be text, parts or nothing."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_part(part, f"{place}[{index}]") for index, part in enumerate(content))


def _part(part: Mapping[str, Any], place: str) -> str:
    """Return the text of one part."""
    kind, text = part.get("type"), part.get("text")
    if kind != "text":
        raise InvalidRequest(
            f"`{place}.type` {str(kind)[:64]!r} is not supported",
            "",
            "the model reads text only",
            "send text parts",
            param=f"{place}.type",
        )
    if not isinstance(text, str):
        raise InvalidRequest(f"`{place}.text` must be a string", param=f"{place}.text")
    return text


def _call(call: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a call whose arguments are a mapping."""
    function = dict(call["function"])
    arguments = function.get("arguments") or "{}"
    if isinstance(arguments, str):
        try:
            arguments = from_json(arguments, allow_inf_nan=False)
        except ValueError as error:
            raise _bad_arguments(place, str(error)) from error
    if not isinstance(arguments, Mapping):
        raise _bad_arguments(place, f"it is a JSON {type(arguments).__name__}")
    return dict(call) | {"function": function | {"arguments": arguments}}


def _bad_arguments(place: str, why: str) -> InvalidRequest:
    """Return the error for arguments that are no JSON object."""
    param = f"{place}.function.arguments"
    return InvalidRequest(f"`{param}` must be a JSON object", "", why, "send back what the model gave", param=param)
