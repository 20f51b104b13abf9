"""The body of POST /v1/completions."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from glm5_gateway.errors import invalid
from glm5_gateway.requests.fields import Bool, GenerateBody, TopLogprobs

MAX_PROMPTS = 128
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": MAX_PROMPTS},
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MAX_PROMPTS},
    ],
    "description": "Text, token ids, or a list of either.",
}

Prompt = str | list[int]


class CompletionBody(GenerateBody):
    """A request to go on with a prompt."""

    prompt: Annotated[Any, WithJsonSchema(_PROMPT_SCHEMA)]
    echo: Bool | None = None
    """true puts the prompt before the output, with its logprobs where asked for."""
    logprobs: TopLogprobs | None = None
    """Alternatives of each token to give logprobs of."""
    best_of: Annotated[int, Field(strict=True, ge=1)] | None = None
    add_special_tokens: Bool | None = None


def prompts_of(value: Any) -> list[Prompt]:
    """Return the prompts of a body, each text or token ids.

    Raises:
        InvalidRequest: the value has another shape, or is empty.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise _wrong("prompt", "it is empty" if value == [] else f"it is of type {type(value).__name__}")
    if _is_id(value[0]):
        return [_ids(value, "prompt")]
    if len(value) > MAX_PROMPTS:
        raise _wrong("prompt", f"it has {len(value)} prompts, {MAX_PROMPTS} are allowed")
    return [one if isinstance(one, str) else _ids(one, f"prompt[{index}]") for index, one in enumerate(value)]


def _ids(value: Any, param: str) -> list[int]:
    """Return a list of token ids."""
    if not isinstance(value, list) or not value:
        raise _wrong(param, "it is empty" if value == [] else f"it is of type {type(value).__name__}")
    for index, one in enumerate(value):
        if not _is_id(one) or one < 0:
            raise _wrong(f"{param}[{index}]", "it is no token id")
    return value


def _is_id(value: Any) -> bool:
    """Return whether `value` is an integer; booleans are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(param: str, why: str) -> Exception:
    """Return the error for a prompt of a wrong shape."""
    cure = "send a string, a list of token ids, or a list of either"
    return invalid(param, f"`{param}` is no prompt", why, cure)
