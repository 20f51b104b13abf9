"""Schemas of the answers, for the OpenAPI document."""

from typing import Any

Schema = dict[str, Any]
_STRING: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OPTIONAL_STRING: Schema = {"type": ["string", "null"]}
_IDS: Schema = {"type": "array", "items": _COUNT}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    """Return an object schema; other fields may follow in later versions."""
    return {"type": "object", "required": list(required), "properties": required | (optional or {})}


def _list(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


_USAGE = _object(
    {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT},
    {
        "prompt_tokens_details": _object({"cached_tokens": _COUNT}),
        "completion_tokens_details": _object({"reasoning_tokens": _COUNT}),
    },
)
_CALL = _object(
    {"id": _STRING, "type": {"const": "function"}, "function": _object({"name": _STRING, "arguments": _STRING})}
)
_MESSAGE = _object(
    {"role": {"const": "assistant"}, "content": _OPTIONAL_STRING},
    {"reasoning_content": _STRING, "tool_calls": _list(_CALL)},
)
_STOP_REASON: Schema = {"type": ["string", "integer", "null"]}
_LOGPROBS: Schema = {"type": ["object", "null"]}
_HEAD: Schema = {"id": _STRING, "created": _COUNT, "model": _STRING}

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        {"error": _object({"message": _STRING, "type": _STRING, "param": _OPTIONAL_STRING, "code": _OPTIONAL_STRING})}
    ),
    "ChatCompletion": _object(
        _HEAD
        | {
            "object": {"const": "chat.completion"},
            "usage": _USAGE,
            "choices": _list(
                _object(
                    {
                        "index": _COUNT,
                        "message": _MESSAGE,
                        "logprobs": _LOGPROBS,
                        "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
                    },
                    {"stop_reason": _STOP_REASON, "token_ids": _IDS},
                )
            ),
        },
        {"prompt_token_ids": _IDS},
    ),
    "Completion": _object(
        _HEAD
        | {
            "object": {"const": "text_completion"},
            "usage": _USAGE,
            "choices": _list(
                _object(
                    {
                        "index": _COUNT,
                        "text": _STRING,
                        "logprobs": _LOGPROBS,
                        "finish_reason": {"enum": ["stop", "length"]},
                    },
                    {"stop_reason": _STOP_REASON, "token_ids": _IDS, "prompt_token_ids": _IDS},
                )
            ),
        }
    ),
    "Tokens": _object(
        {"count": _COUNT, "max_model_len": _COUNT, "tokens": _IDS},
        {"token_strs": {"type": ["array", "null"], "items": _STRING}},
    ),
    "TokenText": _object({"prompt": _STRING}),
    "Models": _object(
        {
            "object": {"const": "list"},
            "data": _list(_object({"id": _STRING, "max_model_len": _COUNT, "created": _COUNT})),
        }
    ),
    "Status": _object({"status": _STRING}),
    "Version": _object({"version": _STRING}),
}
