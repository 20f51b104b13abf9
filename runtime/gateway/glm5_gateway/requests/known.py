"""Fields that are known but unsupported, those that are accepted without effect, and the rest."""

from collections.abc import Mapping
from typing import Any

from glm5_gateway.errors import unsupported

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "bootstrap_host": (),
    "bootstrap_port": (),
    "bootstrap_room": (),
    "cache_salt": (),
    "chat_template": (),
    "continue_final_message": (False,),
    "documents": ([],),
    "ebnf": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "json_schema": (),
    "kv_transfer_params": (),
    "length_penalty": (1, 1.0),
    "logprob_token_ids": ([],),
    "lora_path": (),
    "modalities": (["text"],),
    "no_stop_trim": (False,),
    "prediction": (),
    "priority": (0,),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "regex": (),
    "repetition_detection": (),
    "response_format": ({"type": "text"},),
    "return_hidden_states": (False,),
    "return_tokens_as_token_ids": (False,),
    "session_params": (),
    "stop_regex": ([],),
    "store": (False,),
    "stream_reasoning": (True,),
    "structural_tag": (),
    "structured_outputs": (),
    "suffix": ("",),
    "thinking_token_budget": (),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "web_search_options": (),
}
"""Field to the values that ask for nothing, which are accepted."""

WITHOUT_EFFECT = frozenset(
    {
        "meta",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "rid",
        "safety_identifier",
        "sensitive_word_check",
        "service_tier",
        "session_id",
        "spaces_between_special_tokens",
        "stream_interval",
        "tool_stream",
        "user_id",
        "verbosity",
        "watermark_enabled",
    }
)
"""Accepted, and nothing follows from them."""


def check_unsupported(extra: Mapping[str, Any]) -> int:
    """Refuse fields that are known but unsupported.

    Returns:
        The number of unknown fields; they are ignored.

    Raises:
        InvalidRequest: names the first one.
    """
    for name, value in extra.items():
        if name in UNSUPPORTED and value is not None and not _is_neutral(value, UNSUPPORTED[name]):
            raise unsupported(name)
    return sum(name not in UNSUPPORTED and name not in WITHOUT_EFFECT for name in extra)


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Return whether `value` is one of `neutral`; True is not 1 here."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)
