"""Sampling parameters of a request: its fields, then the checkpoint's defaults, then ours."""

import secrets
from collections.abc import Mapping

from glm5.v1.sampling_pb2 import SamplingParams
from glm5_gateway.errors import BadRequest, invalid
from glm5_gateway.requests.fields import GenerateBody

_GREEDY = 1e-5
"""Temperatures below are greedy, as in vLLM: dividing by them would make logits infinite."""


def sampling_params(
    body: GenerateBody,
    defaults: Mapping[str, float],
    *,
    max_tokens: int,
    vocab_size: int,
    top_logprobs: int | None,
    prompt_logprobs: bool = False,
) -> SamplingParams:
    """Return the parameters of each choice of `body`.

    Args:
        body: validated.
        defaults: of generation_config.json.
        max_tokens: as resolved by `resolved_max_tokens`.
        vocab_size: token ids from here on are refused.
        top_logprobs: alternatives wanted; None means no logprobs at all.
        prompt_logprobs: whether the prompt's tokens are scored too.

    Raises:
        InvalidRequest: a token id is outside the vocabulary, or `min_tokens` is above `max_tokens`.
    """
    if (body.min_tokens or 0) > max_tokens:
        raise invalid("min_tokens", "`min_tokens` is too large", f"{body.min_tokens} is above max_tokens, {max_tokens}")
    temperature = _first(body.temperature, defaults.get("temperature"), 1.0)
    greedy = body.do_sample is False or temperature < _GREEDY
    return SamplingParams(
        temperature=0.0 if greedy else temperature,
        top_p=_first(body.top_p, defaults.get("top_p"), 1.0),
        top_k=max(0, int(_first(body.top_k, defaults.get("top_k"), 0))),
        min_p=_first(body.min_p, defaults.get("min_p"), 0.0),
        repetition_penalty=_first(body.repetition_penalty, defaults.get("repetition_penalty"), 1.0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=_bias(body.logit_bias or {}, vocab_size),
        seed=secrets.randbits(63) if body.seed is None else body.seed % 2**64,
        stop_token_ids=checked_ids(body.stop_token_ids or [], vocab_size, "stop_token_ids"),
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        max_tokens=max_tokens,
        logprobs=top_logprobs is not None,
        top_logprobs=top_logprobs or 0,
        prompt_logprobs=prompt_logprobs,
    )


def resolved_max_tokens(wanted: int | None, prompt_tokens: int, max_model_len: int, param: str) -> int:
    """Return how many tokens may be generated; without a wish, all that fit.

    Args:
        wanted: by the request, None for no wish.
        prompt_tokens: in the prompt.
        max_model_len: prompt and output together, in tokens.
        param: the field that holds the prompt.

    Raises:
        InvalidRequest: prompt and wish do not fit; names the numbers.
    """
    room = max_model_len - prompt_tokens
    if room < 1 or (wanted or 0) > room:
        total = prompt_tokens + (wanted or 1)
        what = f"This model's maximum context length is {max_model_len} tokens"
        why = f"you requested {total} tokens ({prompt_tokens} in the prompt, {total - prompt_tokens} in the completion)"
        raise BadRequest(what, why, "shorten one of them", param=param, word="context_length_exceeded")
    return room if wanted is None else wanted


def checked_ids(ids: list[int], vocab_size: int, param: str) -> list[int]:
    """Return `ids`, all of the vocabulary.

    Raises:
        InvalidRequest: names the first one that is not.
    """
    if ids and max(ids) >= vocab_size:
        place = next(index for index, token_id in enumerate(ids) if token_id >= vocab_size)
        why = f"{ids[place]} is outside the vocabulary of {vocab_size} tokens"
        raise invalid(f"{param}[{place}]", f"`{param}[{place}]` is no token id of this model", why)
    return ids


def _bias(bias: Mapping[str, float], vocab_size: int) -> dict[int, float]:
    """Return `logit_bias` by token id."""
    for key in bias:
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocab_size):
            why = f"its key {key[:32]!r} is no token id below {vocab_size}"
            raise invalid("logit_bias", "`logit_bias` is wrong", why)
    return {int(key): value for key, value in bias.items()}


def _first(*values: float | None) -> float:
    """Return the first value that is there."""
    return next(value for value in values if value is not None)
